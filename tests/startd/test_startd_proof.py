"""A startd is Ready once it has had a real payload, and not a moment earlier."""

from collections.abc import Iterator

import pytest
from reporter.jobs import End, Job
from reporter.outcome import FIZZLE_SECONDS
from reporter.proof import proven

pytestmark = pytest.mark.fast

GOOD = Job(end=End.EXIT, exit_code=0, seconds=5)
EMPTY = Job(end=End.EXIT, exit_code=0, seconds=5, payloads=0)
BAD = Job(end=End.EXIT, exit_code=1, seconds=5)
TAKEN_AWAY = Job(end=End.REMOVE, exit_code=None, seconds=5)


@pytest.mark.parametrize(
    ("what", "ended", "longest", "outputs", "shown"),
    [
        ("nothing happened", [], 0, [], False),
        ("a job runs, no one knows what it is", [], FIZZLE_SECONDS, ["hello"], False),
        ("a job has run for long", [], FIZZLE_SECONDS + 1, [], True),
        ("a job ended well", [GOOD], 0, [], True),
        ("a pilot found no payload", [EMPTY], 0, [], False),
        ("jobs failed or were taken away", [BAD, TAKEN_AWAY], 0, [], False),
        ("a pilot asks for a payload", [], 60, ["did not get a job -- sleep 60 s and repeat"], False),
        ("a pilot has got one", [], 60, ["hello", "received job: 6001 (sleep until the job has finished)"], True),
        ("a pilot got none and is about to end", [], 60, ["File not found: /x/pandaIDs.out, no payload"], False),
    ],
)
def test_what_shows_a_payload(
    what: str,
    ended: list[Job],
    longest: float,
    outputs: list[str],
    shown: bool,  # noqa: FBT001  one of a table
) -> None:
    assert proven(ended, longest, outputs) is shown, what


def test_no_output_is_read_when_the_rest_shows_it() -> None:
    def outputs() -> Iterator[str]:
        pytest.fail("it was read")
        yield ""

    assert proven([GOOD], 0, outputs())
