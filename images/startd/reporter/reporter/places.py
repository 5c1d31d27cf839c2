"""Where things lie on the pod's scratch volume, the only one it may write to."""

from pathlib import Path

from reporter.fault import Fault

SCRATCH = Path("/scratch")
CREDENTIALS = SCRATCH / "credentials"
LOGS = SCRATCH / "log"
JOBS = SCRATCH / "jobs"
EXECUTE = SCRATCH / "execute"
RUN = SCRATCH / "run"
# For the probes of the pod: the pool has shown us the startd; it has had a real payload.
KNOWN = SCRATCH / "known"
READY = SCRATCH / "ready"

# What the pod's annotations ask of it; the kubelet renews it in a running pod.
REQUESTED = Path("/etc/atlas-sites/pod/requested")

# Payloads run as the same user, so that this keeps out nobody but other users of the node.
PRIVATE = 0o700
DIRECTORIES = (CREDENTIALS, LOGS, JOBS, RUN, SCRATCH / "spool", EXECUTE)


def make() -> None:
    """Makes what HTCondor takes for granted.

    Raises:
        Fault: the volume is not there or not ours.
    """
    try:
        for directory in DIRECTORIES:
            directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    except OSError as error:
        raise Fault(
            "ScratchUnusable",
            f"{error.filename}: {error.strerror}; mount an emptyDir at {SCRATCH} that the pod's user may write to",
        ) from None
