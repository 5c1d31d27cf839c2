"""What each site runs to tell the hub of itself."""
