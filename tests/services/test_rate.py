"""How fast a client may write."""

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from services.rate import Limiter, Rate

pytestmark = pytest.mark.fast


class Time:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def limiter(time: Time, rate: Rate) -> Limiter:
    return Limiter(rate, clock=lambda: time.now, sleep=time.sleep)


def writes(time: Time, limiter: Limiter, number: int) -> list[float]:
    async def all_of_them() -> list[float]:
        seen = []
        for _ in range(number):
            await limiter.wait()
            seen.append(time.now)
        return seen

    return asyncio.run(all_of_them())


def test_a_burst_goes_out_at_once_and_the_rest_at_its_pace() -> None:
    time = Time()
    seen = writes(time, limiter(time, Rate(per_second=20, burst=40)), 60)
    assert seen[:40] == [100.0] * 40
    assert seen[40:42] == pytest.approx([100.05, 100.1])
    assert seen[-1] == pytest.approx(101.0)


def test_after_a_rest_there_is_no_more_than_a_burst() -> None:
    time = Time()
    bucket = limiter(time, Rate(per_second=10, burst=5))
    writes(time, bucket, 5)
    time.now += 1000
    seen = writes(time, bucket, 7)
    assert [at - seen[0] for at in seen] == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.2])


def test_while_the_server_asks_for_a_pause_nobody_writes() -> None:
    time = Time()
    bucket = limiter(time, Rate(per_second=10, burst=5))
    bucket.pause(7)
    seen = writes(time, bucket, 2)
    assert seen == pytest.approx([107.0, 107.1])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 9), st.integers(1, 9))
def test_never_more_than_the_burst_and_the_pace_allow_in_any_stretch(rests: list[float], pace: int, burst: int) -> None:
    time = Time()
    bucket = limiter(time, Rate(per_second=pace, burst=burst))
    seen: list[float] = []
    for rest in rests:
        time.now += rest
        seen += writes(time, bucket, 1)
    for first in range(len(seen)):
        for last in range(first, len(seen)):
            assert last - first + 1 <= burst + pace * (seen[last] - seen[first]) + 1e-6
