"""Makes a container as Apptainer does: a program of its own, for it changes the process that runs it.

`nested.py DIRECTORY SOFTWARE` makes a user and a mount namespace, in it a new root with the software, and goes there.
Nothing of it is seen outside, and all of it goes with the process. It ends with 0, or prints the step that failed and
the number of the error.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # libc has no function for it
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
MNT_DETACH = 2
OWN = Path("/proc/self")


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        print(name, error.errno, flush=True)
        sys.exit(1)


def _done(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    _done(LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None))


def main(directory: str, software: str) -> None:
    """Makes all of it, and ends the process where a step fails."""
    uid, gid = os.getuid(), os.getgid()
    with _step("unshare"):
        _done(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    with _step("uid_map"):
        (OWN / "setgroups").write_text("deny")
        (OWN / "uid_map").write_text(f"{uid} {uid} 1")
        (OWN / "gid_map").write_text(f"{gid} {gid} 1")
    with _step("mount"):
        _mount("none", "/", None, MS_REC | MS_SLAVE)
        _mount("root", directory, "tmpfs", 0)
        Path(directory, "software").mkdir()
        _mount(software, f"{directory}/software", None, MS_BIND | MS_REC)
    with _step("pivot_root"):
        os.chdir(directory)
        _done(LIBC.syscall(PIVOT_ROOT[platform.machine()], b".", b"."))
    with _step("umount"):
        _done(LIBC.umount2(b".", MNT_DETACH))
    with _step("chdir"):
        os.chdir("/software")


if __name__ == "__main__":
    main(*sys.argv[1:])
