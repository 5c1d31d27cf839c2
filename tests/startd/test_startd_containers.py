"""Whether payloads can start containers: made for real, and what forbids it is named."""

import errno
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from reporter import containers
from reporter.fault import Fault

pytestmark = pytest.mark.fast

SWITCHES = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
GOOD = {"user/max_user_namespaces": "15000", "kernel/unprivileged_userns_clone": "1"}


def node(tmp_path: Path, *, label: str = "", seccomp: int = 2, **settings: str) -> Path:
    """What a container sees of its node, below a directory of the test's."""
    for name, value in {**GOOD, **{name.replace("__", "/"): value for name, value in settings.items()}}.items():
        place = tmp_path / "proc/sys" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{value}\n")
    own = tmp_path / "proc/self/attr"
    own.mkdir(parents=True)
    (own / "current").write_text(f"{label}\n")
    (own.parent / "status").write_text(f"Name:\tpython3\nSeccomp:\t{seccomp}\nSeccomp_filters:\t1\n")
    return tmp_path


def test_a_container_is_really_made_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    software, place = tmp_path / "software", tmp_path / "run"
    software.mkdir()
    place.mkdir()
    assert containers.attempt(place, software) is None
    # Not all of it is compared: pods of this machine's node come and go meanwhile.
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    assert list(place.iterdir()) == []


def test_what_a_container_cannot_be_made_without_is_told(tmp_path: Path) -> None:
    assert containers.attempt(tmp_path, tmp_path / "nowhere") == "mount: No such file or directory"


def test_where_no_more_user_namespaces_may_be_made_the_switch_is_named(tmp_path: Path) -> None:
    """For real: in a user namespace whose own limit is nought."""
    program = (
        "from pathlib import Path; from reporter.containers import *; print(attempt(Path(sys.argv[1]), Path('/usr')))"
    )
    shut = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", shut, "sh", sys.executable, "-c", program, tmp_path],
        cwd=Path(containers.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "unshare: No space left on device, for user.max_user_namespaces is 0 on this node"


@pytest.mark.parametrize(
    ("step", "number", "given", "said"),
    [
        ("unshare", errno.EPERM, {}, ", for the container's seccomp profile does not allow it"),
        ("unshare", errno.EPERM, {"seccomp": 0}, ""),
        ("mount", errno.EPERM, {}, ""),
        (
            "unshare",
            errno.ENOSPC,
            {"user__max_user_namespaces": "0"},
            ", for user.max_user_namespaces is 0 on this node",
        ),
        (
            "unshare",
            errno.EPERM,
            {"kernel__unprivileged_userns_clone": "0"},
            ", for kernel.unprivileged_userns_clone is 0 on this node",
        ),
        (
            "uid_map",
            errno.EPERM,
            {"kernel__apparmor_restrict_unprivileged_userns": "1", "label": "unconfined"},
            ", for kernel.apparmor_restrict_unprivileged_userns is 1 on this node",
        ),
        (
            "mount",
            errno.EACCES,
            {"label": "cri-containerd.apparmor.d (enforce)"},
            ", for the container has the AppArmor profile cri-containerd.apparmor.d",
        ),
        ("mount", errno.EACCES, {"label": "system_u:system_r:container_t:s0:c1,c2"}, ""),
        ("unshare", errno.EINVAL, {}, ", for the node's kernel has no user namespaces"),
        (
            "unshare",
            errno.EPERM,
            {"user__max_user_namespaces": "0", "kernel__unprivileged_userns_clone": "0"},
            ", for user.max_user_namespaces is 0 on this node and kernel.unprivileged_userns_clone is 0 on this node",
        ),
    ],
)
def test_whatever_of_the_node_forbids_it_is_named(
    tmp_path: Path, step: str, number: int, given: dict[str, str], said: str
) -> None:
    told = containers.why(step, number, node(tmp_path, **given))  # type: ignore[arg-type]
    assert told.startswith(f"{step}: ")
    assert told.partition(", for ")[1:] == ("", "") if not said else told.endswith(said)


def test_a_site_that_promises_it_takes_no_payload_without() -> None:
    containers.required("NoUserNamespaces", None)
    with pytest.raises(Fault, match=r"^payloads cannot start containers, unshare: no; see docs/runbooks/") as fault:
        containers.required("NoUserNamespaces", "unshare: no")
    assert fault.value.reason == "NoUserNamespaces"


def repository(tmp_path: Path, name: str, program: str | None = None) -> Path:
    """One with an image at ATLAS's place, and a stand-in for Apptainer beside it if its text is given."""
    top, machine = tmp_path / name, platform.machine()
    (top / containers.IMAGE.format(machine=machine)).mkdir(parents=True)
    if program is not None:
        place = top / containers.PROGRAM.format(machine=machine)
        place.parent.mkdir(parents=True)
        place.write_text(f"#!/bin/sh\n{program}\n")
        place.chmod(0o755)
    return top


def test_apptainer_is_found_in_the_first_repository_that_has_it_where_pilots_look(tmp_path: Path) -> None:
    without, full = repository(tmp_path, "a"), repository(tmp_path, "b", "exit 0")
    assert containers.find([without, tmp_path / "nowhere"]) is None
    found = containers.find([without, full, repository(tmp_path, "c", "exit 0")])
    assert found is not None
    assert found.program.is_relative_to(full)
    assert found.image.is_dir()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ('case "$*" in *"--bind=/cvmfs "*/apptainer) ;; *) exit 1;; esac', None),
        (
            "echo 'INFO:    no' >&2; echo 'FATAL:   container creation failed: EPERM' >&2; exit 255",
            "container .*: EPERM",
        ),
        (
            "printf '\\033[91mERROR  : Failed to create user namespace: no\\n\\033[0m' >&2; exit 1",
            "Failed to create user namespace: no",
        ),
        ("exit 1", "it died"),
    ],
)
def test_what_apptainer_says_last_is_told(tmp_path: Path, program: str, said: str | None) -> None:
    apptainer = containers.find([repository(tmp_path, "a", program)])
    assert apptainer is not None
    failure = containers.start(apptainer, tmp_path, Path("/cvmfs"))
    assert (failure is None) if said is None else re.fullmatch(f"{apptainer.program}: {said}", str(failure))
