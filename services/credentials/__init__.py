"""The refresher: keeps the Secret that startds prove themselves with filled, and never takes away what still works."""
