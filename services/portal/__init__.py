"""The hub's portal: it keeps what each site of the stack told last, and shows it."""
