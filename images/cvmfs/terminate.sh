#!/bin/sh
# The preStop hook, as in CERN's image: takes the mounts off the node while the container is still whole.
exec python3 -m local.mounter unmount
