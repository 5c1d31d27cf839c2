"""The dev site's own databases: they have what its services tell, and nothing is lost when they are restarted."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from local.paths import CHECKOUT
from tests.cluster.cluster import BOUND, Cluster

pytestmark = pytest.mark.cluster

SITE = "dev"
SECRETS = "/run/secrets/atlas-sites"
# As who may only read.
ASK = f'influx -username "$(cat {SECRETS}/reader/username)" -password "$(cat {SECRETS}/reader/password)" "$@"'
# Prints what becomes of each request, as whom it is made.
TRY = """
import base64, json, sys, urllib.error, urllib.request
def status(user, path, body):
    request = urllib.request.Request("http://influxdb:8086" + path, data=body.encode())
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
directory = "/run/secrets/atlas-sites/series/"
writer = ":".join(open(directory + name).read() for name in ("username", "password"))
reader = "reader:" + sys.stdin.read()
write, drop = ("/write?db=atlas", "m v=1 1"), ("/query?q=DROP+DATABASE+atlas", "")
read = ("/query?db=atlas&q=SHOW+MEASUREMENTS", "")
print(json.dumps([status(*each) for each in (
    (None, *write), (None, *read), ("reader:wrong", *read), (reader, *write), (reader, *read), (writer, *drop))]))
"""


def rows(site: Cluster, query: str) -> list[dict[str, Any]]:
    """What InfluxDB answers in its own pod; nothing while it does not."""
    words = ["exec", "-n", SITE, "deployment/influxdb", "-c", "influxdb", "--", "sh", "-c", ASK, "ask"]
    said = site.kubectl(*words, "-database", "atlas", "-format", "json", "-execute", query, check=False)
    try:
        (result,) = json.loads(said)["results"]
    except (ValueError, KeyError):
        return []
    return [
        dict(zip(series["columns"], row, strict=True))
        for series in result.get("series", ())
        for row in series["values"]
    ]


def in_the_ledger(site: Cluster) -> dict[str, Any]:
    words = ["exec", "-n", SITE, "deployment/accounting", "--", "python3", "-m", "services.accounting", "daily"]
    told: dict[str, Any] = json.loads(site.kubectl(*words))
    return told


def sums(told: dict[str, Any]) -> tuple[int, ...]:
    """Costs in millionths, and core-seconds of startds that have ended."""
    held = (seconds for each in told["usage"] for seconds in each["held"].values())
    return sum(each["micros"] for each in told["costs"]), sum(held)


def test_what_the_books_say_arrives_in_the_sites_own_influxdb(site: Cluster) -> None:
    def known() -> tuple[int, ...]:
        """By the ledger, once a startd has ended."""
        found = sums(in_the_ledger(site))
        return found if all(found) else ()

    month = f"time >= '{datetime.now(UTC):%Y-%m}-01'"
    known_before = site.eventually(known, "the ledger knows of a startd that has ended", SITE)

    def arrived() -> tuple[int, ...]:
        spent = rows(site, f"SELECT sum(amount) AS amount FROM atlas_cost WHERE {month}")  # noqa: S608  of ours
        used = rows(site, f"SELECT sum(wall_core_seconds) AS wall FROM atlas_usage WHERE {month}")  # noqa: S608
        if not (spent and used):
            return ()
        found = round(float(spent[0]["amount"]) * 1_000_000), int(used[0]["wall"])
        return found if all(there >= before for there, before in zip(found, known_before, strict=True)) else ()

    found = site.eventually(arrived, "all that the ledger knew is in InfluxDB", SITE)
    # It goes on meanwhile, and what runs can only cost more.
    assert all(there <= after for there, after in zip(found, sums(in_the_ledger(site)), strict=True))


def test_a_restart_of_the_server_loses_no_point(site: Cluster) -> None:
    before = site.eventually(lambda: rows(site, "SHOW SERIES"), "there are series", SITE)
    counted = "jsonpath={.items[0].status.containerStatuses[0].restartCount}"
    pods = ["get", "pods", "-n", SITE, "-l", "app.kubernetes.io/name=influxdb", "-o", counted]
    times = int(site.kubectl(*pods))
    site.kubectl("exec", "-n", SITE, "deployment/influxdb", "-c", "influxdb", "--", "sh", "-c", "kill 1")
    site.eventually(lambda: int(site.kubectl(*pods) or 0) > times, "the server was restarted", SITE)
    after = site.eventually(lambda: rows(site, "SHOW SERIES"), "the server answers again", SITE)
    assert [each for each in before if each not in after] == []


def test_a_pod_whose_volume_went_with_it_gets_all_points_again(site: Cluster) -> None:
    before = site.eventually(lambda: rows(site, "SHOW SERIES"), "there are series", SITE)
    site.kubectl("delete", "pod", "-n", SITE, "-l", "app.kubernetes.io/name=influxdb", "--wait=true", BOUND)
    site.kubectl("rollout", "status", "-n", SITE, "deployment/influxdb", BOUND)

    def all_again() -> bool:
        after = rows(site, "SHOW SERIES")
        return all(each in after for each in before)

    site.eventually(all_again, "the accounting has written all series again", SITE)


def test_nobody_writes_or_reads_without_a_password_and_each_may_do_his_own_alone(site: Cluster) -> None:
    secret = site.kubectl(
        "get", "secret", "influxdb-reader", "-n", SITE, "-o", "go-template={{.data.password|base64decode}}"
    )
    words = ["exec", "-i", "-n", SITE, "deployment/accounting", "--", "python3", "-c", TRY]
    assert json.loads(site.kubectl(*words, stdin=secret)) == [401, 401, 401, 403, 200, 403]


# Which metric of an alert tells that a service was asked, by the job that asks it.
ASKED = {
    "accounting": "accounting_series_behind_seconds",
    "credentials": "credentials_seconds_to_expiry",
    "node-monitor": "cvmfs_repository_readable",
    "nodehealth": "nodehealth_restrained",
    "portal": "portal_silence_seconds",
    "pusher": "pusher_report_age_seconds",
    "squid-0": "squid_up",
    "squid-1": "squid_up",
    "vacuum": "vacuum_leader",
}


def metrics(victoria: httpx.Client, query: str) -> list[dict[str, Any]]:
    """What VictoriaMetrics has now, without the half minute that it waits for those who are late."""
    told = victoria.get("/api/v1/query", params={"query": query, "latency_offset": "1s"})
    told.raise_for_status()
    result: list[dict[str, Any]] = told.json()["data"]["result"]
    return result


def test_victoria_metrics_has_of_each_service_what_its_alerts_ask_for(site: Cluster) -> None:
    alerts = "".join(file.read_text() for file in (CHECKOUT / "dashboards/alerts").glob("*.yaml"))
    assert all(metric in alerts for metric in ASKED.values())
    secret = "go-template={{.data.password|base64decode}}"
    password = site.kubectl("get", "secret", "victoria-metrics-user", "-n", SITE, "-o", secret)
    with site.forwarded(SITE, "victoria-metrics", 8428) as victoria:
        assert victoria.get("/api/v1/query", params={"query": "up"}).status_code == 401
        victoria.auth = ("metrics", password)

        def all_told() -> bool:
            return all(metrics(victoria, f'{metric}{{job="{job}"}}') for job, metric in ASKED.items())

        site.eventually(all_told, "VictoriaMetrics has a metric of each service", SITE)
        assert {each["metric"]["job"] for each in metrics(victoria, "up")} == ASKED.keys()

        def both_controllers() -> bool:
            """Each of them is asked, and one leads; the alerts tell sites apart by the namespace."""
            told = metrics(victoria, f'vacuum_leader{{namespace="{SITE}"}}')
            return sorted(each["value"][1] for each in told) == ["0", "1"]

        site.eventually(both_controllers, "VictoriaMetrics has what both vacuum controllers say", SITE)
