"""What makes `pulumi up` work on a bare machine: pinned tools, one real Kubernetes node, images, a central pool.

Nothing here is used by a stack in a cloud. `python -m local --help` lists the commands; the Makefile names them.
"""
