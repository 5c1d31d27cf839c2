"""A site's books, as the engine is told of them: who may do what, where the ledger is, whose the verdict is."""

from pathlib import Path
from typing import Any

import pytest

from components.accounting import SERIES_DIRECTORY, Accounting, AccountingArgs, Bill, Series
from components.vacuum import BUDGET_DIRECTORY
from services.accounting.main import CONFIG_MAP, KEY
from services.accounting.options import options
from services.vacuum.survey import BUDGET
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

DEPLOYMENT, CLAIM = "kubernetes:apps/v1:Deployment", "kubernetes:core/v1:PersistentVolumeClaim"
CONFIG = "kubernetes:core/v1:ConfigMap"
RBAC = "kubernetes:rbac.authorization.k8s.io/v1:"
AZURE = Bill(
    source="azure",
    identity="00000000-0000-0000-0000-000000000002",
    subscription="00000000-0000-0000-0000-000000000001",
    groups=("atlas-a", "atlas-a-nodes"),
)
GOOGLE = Bill(source="google", identity="x@project.iam.gserviceaccount.com", table="project.billing.export")
AWS = Bill(source="aws", identity="arn:aws:iam::123456789012:role/accounting")


def declared(**more: Any) -> Monitor:
    given: dict[str, Any] = {
        "site": "a",
        "namespace": "a",
        "priority": "a-service",
        "image": f"registry.example.org/atlas/services@sha256:{'0' * 64}",
        "currency": "EUR",
        "vo": "atlas",
        "core_hour": 0.02,
    }
    return deploy(lambda: Accounting("a-accounting", AccountingArgs(**{**given, **more})))


def pod(monitor: Monitor) -> dict[str, Any]:
    return dict(monitor.one(DEPLOYMENT).inputs["spec"]["template"])


def told(monitor: Monitor) -> dict[str, str]:
    (container,) = pod(monitor)["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


@pytest.mark.parametrize("bill", [None, AZURE, GOOGLE, AWS], ids=["none", "azure", "google", "aws"])
def test_the_service_understands_what_it_is_told(bill: Bill | None) -> None:
    found = options(told(declared(bill=bill, per_day=50, per_month=1000.5, hs23=12.5)))
    assert (found.site, found.currency, found.vo, found.hs23) == ("a", "EUR", "atlas", "12.5")
    assert found.bill == (bill.source if bill else "")
    assert found.budget is not None
    assert (found.budget.per_day, found.budget.per_month) == (50_000_000, 1_000_500_000)
    if bill is AZURE:
        assert found.groups == AZURE.groups


def test_each_resource_has_its_place_and_breaks_no_rule() -> None:
    tree.check(declared(per_day=1, bill=AZURE, ledger_mib=2048))


def test_it_sees_startds_and_writes_nothing_but_the_verdict() -> None:
    def rules(monitor: Monitor) -> list[tuple[str, str, str]]:
        return [
            (",".join(rule["resources"]), ",".join(rule.get("resourceNames", ["*"])), ",".join(rule["verbs"]))
            for rule in monitor.one(f"{RBAC}Role").inputs["rules"]
        ]

    seeing = [("pods", "*", "list,watch"), ("startdsets", "*", "list,watch")]
    assert rules(declared()) == seeing
    assert rules(declared(per_month=1)) == [
        *seeing,
        ("configmaps", "budget", "patch"),
        ("events", "*", "create"),
    ]
    binding = declared().one(f"{RBAC}ClusterRoleBinding")
    assert binding.inputs["roleRef"]["name"] == "a-nodes"


def test_the_verdict_is_declared_without_data_and_is_nobody_elses_to_change() -> None:
    assert not declared().all(CONFIG)
    verdict = declared(per_day=1).one(CONFIG)
    assert verdict.inputs["metadata"]["name"] == CONFIG_MAP == "budget"
    assert "data" not in verdict.inputs
    assert verdict.ignore_changes == ["data"]
    assert Path(BUDGET_DIRECTORY) / KEY == BUDGET


def test_the_ledger_is_on_a_claim_of_its_own_or_goes_with_the_pod() -> None:
    kept = declared(ledger_mib=2048, storage_class="fast")
    assert kept.one(CLAIM).inputs["spec"]["resources"]["requests"] == {"storage": "2048Mi"}
    assert kept.one(CLAIM).inputs["spec"]["storageClassName"] == "fast"
    (volume,) = [each for each in pod(kept)["spec"]["volumes"] if each["name"] == "ledger"]
    assert volume["persistentVolumeClaim"] == {"claimName": "ledger"}
    assert kept.one(DEPLOYMENT).inputs["spec"]["strategy"] == {"type": "Recreate"}
    scratch = declared()
    assert not scratch.all(CLAIM)
    (volume,) = [each for each in pod(scratch)["spec"]["volumes"] if each["name"] == "ledger"]
    assert "emptyDir" in volume
    (container,) = pod(scratch)["spec"]["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "ledger"]
    assert told(scratch)["LEDGER"].startswith(f"{mount['mountPath']}/")
    assert not mount.get("readOnly")


@pytest.mark.parametrize(
    ("bill", "key"),
    [
        (AZURE, "azure.workload.identity/client-id"),
        (GOOGLE, "iam.gke.io/gcp-service-account"),
        (AWS, "eks.amazonaws.com/role-arn"),
    ],
    ids=["azure", "google", "aws"],
)
def test_the_clouds_identity_is_the_accounts_and_no_secret_is_needed(bill: Bill, key: str) -> None:
    monitor = declared(bill=bill)
    account = monitor.one("kubernetes:core/v1:ServiceAccount")
    assert account.inputs["metadata"]["annotations"] == {key: bill.identity}
    uses = pod(monitor)["metadata"]["labels"].get("azure.workload.identity/use")
    assert uses == ("true" if bill is AZURE else None)
    assert not monitor.all("kubernetes:core/v1:Secret")


def test_series_go_where_the_stack_says_and_their_secret_is_a_file_that_may_come_later() -> None:
    assert "SERIES_URL" not in told(declared())
    series = Series(url="https://influx.example.org", database="atlas", secret="influxdb")
    monitor = declared(series=series)
    tree.check(monitor)
    environment = told(monitor)
    database = options(environment).series
    assert database is not None
    assert database.target == "https://influx.example.org atlas"
    assert environment["SERIES_SECRET"] == SERIES_DIRECTORY
    (volume,) = [each for each in pod(monitor)["spec"]["volumes"] if each["name"] == "series"]
    assert volume["secret"] == {"secretName": "influxdb", "optional": True}
    (container,) = pod(monitor)["spec"]["containers"]
    assert SERIES_DIRECTORY in {each["mountPath"] for each in container["volumeMounts"]}
    assert not monitor.all("kubernetes:core/v1:Secret")
