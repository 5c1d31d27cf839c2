"""What supervises HTCondor in a startd's pod and tells in the end what became of it; it needs nothing but Python."""
