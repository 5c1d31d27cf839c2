"""Which processes are payloads, by who started whom."""

import os
import subprocess

import pytest
from reporter.processes import payloads, table

pytestmark = pytest.mark.fast


def test_payloads_are_what_runs_below_the_starters_and_nothing_else() -> None:
    processes = {
        1: (0, "tini"),
        2: (1, "python3"),
        3: (2, "condor_master"),
        4: (3, "condor_startd"),
        5: (4, "condor_starter"),
        6: (5, "pilot"),
        7: (6, "athena"),
        8: (4, "condor_starter"),
        9: (8, "sh"),
        10: (3, "condor_procd"),
    }
    assert payloads(processes) == {6, 7, 9}
    assert payloads({1: (0, "tini")}) == set()


def test_a_process_is_known_with_its_parent_whatever_its_name() -> None:
    name = "a) S 1 (b"
    code = f"open('/proc/self/comm', 'w').write({name!r}); print(flush=True); input()"
    child = subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert table()[child.pid] == (os.getpid(), name)
    finally:
        child.communicate(b"\n")
