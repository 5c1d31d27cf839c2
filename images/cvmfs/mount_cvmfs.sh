#!/bin/sh
# The container's program, as in CERN's image: mounts, and stays.
exec /usr/bin/tini -- python3 -m local.mounter
