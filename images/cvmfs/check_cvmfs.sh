#!/bin/sh
# check_cvmfs.sh readiness|liveness, as in CERN's image.
exec python3 -m local.mounter "$1"
