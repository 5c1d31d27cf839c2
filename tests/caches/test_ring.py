"""The ring that the stand-in for a CVMFS client chooses by is CVMFS's own."""

import pytest

from tests.caches import ring

pytestmark = pytest.mark.fast

PROXIES = [f"http://10.214.0.{host}:3128" for host in (10, 11, 12)]
URLS = [f"http://origin/{number}" for number in range(1000)]


def test_a_proxy_stands_where_cvmfs_own_generator_puts_it() -> None:
    # Printed by a program of a few lines around cvmfs/util/prng.h (2.12), seeded as download.cc does.
    assert ring.points(PROXIES[0]) == [
        1449387605, 3535790048, 2478384877, 775268291, 2831028802, 3483668600, 839076065, 3860485966,
        1921248098, 39096897, 231230502, 679711788, 1903171728, 3998707402, 3542718350, 2798881270,
    ]  # fmt: skip


def test_an_object_is_of_the_first_point_not_before_it() -> None:
    points = {point: proxy for proxy in PROXIES for point in ring.points(proxy)}
    for url in URLS:
        after = [point for point in points if point >= ring.place(url)]
        assert ring.owner(PROXIES, url) == points[min(after or points)]


def test_a_proxy_that_leaves_gives_its_part_away_and_nothing_else_moves() -> None:
    for gone in PROXIES:
        left = [proxy for proxy in PROXIES if proxy != gone]
        for url in URLS:
            before = ring.owner(PROXIES, url)
            assert before == gone or ring.owner(left, url) == before
