"""Why the pool does not take a startd is told from what HTCondor 23.9.6 says of it."""

import sys
import time

import pytest
from reporter.codes import Code
from reporter.pool import Question, Refusals

pytestmark = pytest.mark.fast

DENIED = 'ERROR: SECMAN:2010:Received "DENIED" from server for user nobody@pool using method IDTOKENS.'
WRONG = "AUTHENTICATE:1004:Failed to authenticate using IDTOKENS"
REFUSED = "CEDAR:6001:Failed to connect to <10.0.0.1:9618>"
NAMELESS = "CONDOR_STATUS:1:Unable to resolve COLLECTOR_HOST (nowhere.example:9618)."


@pytest.mark.parametrize(
    ("lines", "code", "reason"),
    [
        ([DENIED], Code.BANNED, "NotAuthorized"),
        ([WRONG], Code.SITE_FAULT, "NotAuthenticated"),
        ([REFUSED], Code.GRID_FAULT, "PoolUnreachable"),
        ([NAMELESS], Code.GRID_FAULT, "PoolUnreachable"),
        (["2026-11-25T18:21:39+0000 Can't resolve collector x:1; skipping update"], Code.GRID_FAULT, "PoolUnreachable"),
        ([DENIED, WRONG, REFUSED], Code.BANNED, "NotAuthorized"),
        ([REFUSED, WRONG], Code.SITE_FAULT, "NotAuthenticated"),
    ],
)
def test_the_most_telling_sign_counts(lines: list[str], code: Code, reason: str) -> None:
    refusals = Refusals()
    for line in lines:
        refusals.read(line)
    told = refusals.told()
    assert told is not None
    assert (told.code, told.reason) == (code, reason)
    assert "2026" not in told.sentence


def test_what_a_payload_tries_on_the_startd_is_not_the_pools_refusal() -> None:
    refusals = Refusals()
    refusals.read("2026-11-25T18:36:53+0000 PERMISSION DENIED to startd@x from host 10.0.0.2 for command 60020 (READ)")
    assert refusals.told() is None


def answer(program: str) -> Question:
    """The question, answered by a Python program."""
    question = Question(words=[sys.executable, "-c", program], environment={}, refusals=Refusals())
    deadline = time.monotonic() + 30
    question.look()
    while question._asking is not None and time.monotonic() < deadline:
        question.look()
        time.sleep(0.01)
    return question


def test_a_collector_that_shows_the_startd_knows_it() -> None:
    question = answer("print('slot1@startds-1')")
    assert question.answered
    assert question.look()


def test_a_collector_that_shows_nothing_does_not() -> None:
    assert not answer("").answered


def test_a_question_that_fails_says_why() -> None:
    question = answer(f"import sys; print('slot1'); sys.exit({WRONG!r})")
    assert not question.answered
    told = question.refusals.told()
    assert told is not None
    assert told.reason == "NotAuthenticated"


def test_a_question_under_way_can_be_ended() -> None:
    question = Question(
        words=[sys.executable, "-c", "import time; time.sleep(600)"], environment={}, refusals=Refusals()
    )
    assert not question.look()
    question.stop()
    assert question._asking is not None
    assert question._asking.returncode != 0
