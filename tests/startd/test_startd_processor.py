"""CPU time of a startd's container, from its control group."""

from pathlib import Path

import pytest
from reporter.processor import cpu_seconds

pytestmark = pytest.mark.fast


def test_cpu_time_is_told_by_either_kind_of_control_group(tmp_path: Path) -> None:
    unified, legacy = tmp_path / "cpu.stat", tmp_path / "cpuacct.usage"
    legacy.write_text("2500000000\n")
    assert cpu_seconds(unified, legacy) == 2.5
    unified.write_text("usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n")
    assert cpu_seconds(unified, legacy) == 1.5


@pytest.mark.parametrize("said", ["", "usage_usec many\n"])
def test_a_control_group_that_tells_nothing_is_no_cpu_time_at_all(tmp_path: Path, said: str) -> None:
    unified = tmp_path / "cpu.stat"
    unified.write_text(said)
    assert cpu_seconds(unified, tmp_path / "none") is None
