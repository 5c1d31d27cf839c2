"""What runs inside a cluster."""
