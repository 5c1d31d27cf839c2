"""CPU time of all that ran in the container, as its control group tells it."""

from pathlib import Path

UNIFIED = Path("/sys/fs/cgroup/cpu.stat")
LEGACY = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")


def cpu_seconds(unified: Path = UNIFIED, legacy: Path = LEGACY) -> float | None:
    """User and system time of all cores together, of processes that have ended too; None if nothing tells."""
    try:
        for line in unified.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
    except (OSError, ValueError):
        pass
    try:
        return int(legacy.read_text()) / 1e9
    except (OSError, ValueError):
        return None
