"""The dev site's portal as a person finds it: by a forwarded port, and by no other way."""

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.cluster

SITE = "dev"
PAGES = 8090


@pytest.fixture
def portal(site: Cluster) -> Iterator[httpx.Client]:
    with site.forwarded(SITE, "portal", PAGES) as client:
        yield client


def page(portal: httpx.Client, path: str) -> str:
    answer = portal.get(path)
    answer.raise_for_status()
    return answer.text


def test_the_dev_site_tells_the_portal_of_its_set_with_the_controllers_own_words(
    site: Cluster, portal: httpx.Client
) -> None:
    site.eventually(lambda: "heard <time" in page(portal, "/sites/dev"), "the hub has heard its own site", SITE)

    def shown() -> bool:
        """The controller goes on while one looks: what it says now must be shown within some pushes."""
        status = json.loads(site.kubectl("get", "startdset", "startds", "-n", SITE, "-o", "json"))["status"]
        seen = page(portal, "/sites/dev/sets/startds")
        return all(bound["name"] in seen for bound in status["bounds"]) and f">{status['limit']}</dd>" in seen

    site.eventually(shown, "the portal shows what limits the set", SITE)
    # Of a site that has just come up, some services answer later than others.
    unseen = ("cannot be seen", "does not answer", "Cost today</dt><dd>unknown")
    site.eventually(
        lambda: not any(said in page(portal, "/sites/dev") for said in unseen), "the site sees all of itself", SITE
    )
    whole = page(portal, "/sites/dev")
    assert "EUR" in whole, "the books' costs"
    assert "squid-0" in whole
    assert "squid-1" in whole
    assert re.search(r"<dt>Proxy left</dt><dd>\d+ (d|h)</dd>", whole)
    assert "ATLAS-SITES-DEV" in page(portal, "/")


def test_the_pages_answer_nobody_who_has_not_forwarded_a_port(site: Cluster) -> None:
    address = site.kubectl(
        "get", "pods", "-n", SITE, "-l", "app.kubernetes.io/name=portal", "-o", "jsonpath={.items[0].status.podIP}"
    )
    ask = "import sys, socket; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print('open')"

    def reaches(who: str, port: int) -> str:
        words = ["exec", "-n", SITE, f"deployment/{who}", "--", "python3", "-c", ask, address, str(port)]
        return site.kubectl(*words, check=False)

    assert "open" in reaches("pusher", 8081)
    # Neither the network lets anybody in, nor does the portal listen there: it answers on its loopback alone.
    assert "TimeoutError" in reaches("pusher", PAGES)
    assert "ConnectionRefusedError" in reaches("portal", PAGES)


def test_the_portal_may_do_nothing_and_the_pusher_may_only_look(site: Cluster) -> None:
    def may(who: str, verb: str, what: str) -> bool:
        words = ["auth", "can-i", verb, what, f"--as=system:serviceaccount:{SITE}:{who}", "-n", SITE]
        return "yes" in site.kubectl(*words, check=False).splitlines()

    assert may("pusher", "list", "pods")
    assert not any(may("pusher", verb, "pods") for verb in ("create", "delete", "patch"))
    assert not may("pusher", "get", "secrets")
    assert not may("portal", "list", "pods")
    assert not may("portal", "get", "secrets")
