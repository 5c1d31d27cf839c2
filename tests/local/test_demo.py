"""The demonstration's results: added up exactly or refused, and listed."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.demo import submission
from local.demo.plot import draw
from local.demo.results import jobs_of, merge, table
from local.refusal import Refusal

pytestmark = pytest.mark.fast


def result(seed: int, **changes: Any) -> str:
    said = {"v": 1, "seed": seed, "events": 10, "edgesGeV": [100, 150, 300], "counts": [5, 2], "below": 1, "above": 2}
    return json.dumps({**said, "without": 0, "sigmaMb": 1e-3, "sigmaErrorMb": 1e-5, **changes})


def test_counts_of_all_jobs_add_up_exactly() -> None:
    merged = merge({1: result(1), 2: result(2, counts=[1, 9], below=0, above=0)}, jobs=2, events=10)
    assert (merged.counts, merged.outside, merged.events) == ((6, 11), 3, 20)


def test_the_cross_section_is_the_mean_and_its_error_shrinks() -> None:
    merged = merge({n: result(n, sigmaMb=n * 1e-3) for n in (1, 2, 3, 4)}, jobs=4, events=10)
    assert merged.sigma_pb == pytest.approx(2.5e6)
    assert merged.sigma_error_pb == pytest.approx(0.5e4)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (None, "no result of job 2"),
        ("{", "cannot be read"),
        (json.dumps({"seed": 2}), "cannot be read"),
        (result(1), "has seed 1"),
        (result(2, counts=[5, 1]), "accounts for 9 events of 10"),
        (result(2, counts=[8, -1]), "no counting gives"),
        (result(2, counts=[5.0, 2]), "no counting gives"),
        (result(2, edgesGeV=[100, 150, 400]), "other bins"),
    ],
)
def test_a_result_that_is_missing_or_inconsistent_is_refused(second: str | None, reason: str) -> None:
    texts = {1: result(1)} | ({} if second is None else {2: second})
    with pytest.raises(Refusal, match=reason):
        merge(texts, jobs=2, events=10)


def test_the_table_lists_jobs_by_number_with_site_pod_exit_code_and_seconds() -> None:
    ads = [
        {"ProcId": 1, "ExitCode": 3, "LastRemoteHost": "slot1_1@startds-7.dev", "RemoteWallClockTime": 6.04,
         "MachineAttrATLAS_SITE0": "DEV-LOCAL"},
        {"ProcId": 0, "LastRemoteHost": "slot1_1@master@startds-6", "RemoteWallClockTime": 12.0},
    ]  # fmt: skip
    assert [line.split() for line in table(jobs_of(ads)).splitlines()] == [
        ["job", "site", "startd", "pod", "exit", "code", "seconds"],
        ["1", "unknown", "startds-6", "none", "12.0"],
        ["2", "DEV-LOCAL", "startds-7", "3", "6.0"],
    ]


def test_as_many_jobs_are_queued_as_were_asked_for() -> None:
    assert submission(23).endswith("queue 23\n")


def test_the_figure_is_a_png_also_when_a_bin_is_empty(tmp_path: Path) -> None:
    merged = merge({1: result(1, counts=[0, 7])}, jobs=1, events=10)
    draw(merged, 1, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
