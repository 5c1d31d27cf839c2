"""What a site costs and what it may: the service that keeps the books, its ledger, and the budget that it announces.

The ConfigMap `budget` is declared without data: what is in it belongs to the accounting alone. The ledger is on a claim
of its own: what a cloud billed can be read again, what startds did cannot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from components import naming, pods, service, vacuum
from components.labels import labels

NAME = "accounting"
BUDGET = "budget"
LEDGER = "ledger"
LEDGER_DIRECTORY = "/var/lib/atlas-sites"
SERIES_DIRECTORY = "/run/secrets/atlas-sites/series"


@dataclass(frozen=True, kw_only=True)
class Bill:
    """A cloud's bill, and who may read it.

    Attributes:
        source: azure, google or aws.
        identity: of the cloud, that the service account stands for: a client ID of Azure, an address of a Google
            service account, the ARN of a role of AWS.
        subscription: of Azure.
        groups: resource groups of Azure that are the site's.
        table: of Google's export.
    """

    source: str
    identity: str
    subscription: str = ""
    groups: Sequence[str] = ()
    table: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Where time series are kept.

    Attributes:
        url: of an InfluxDB.
        database: in it.
        secret: of the same namespace, with username and password, or token; None if nobody asks for them.
    """

    url: str
    database: str
    secret: pulumi.Input[str] | None = None


@dataclass(frozen=True, kw_only=True)
class AccountingArgs:
    """What the books are about.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the services.
        currency: of prices and budget.
        per_day, per_month: that may be spent; None is no limit.
        core_hour: price of a core for an hour on nodes of no pool; None if nobody says.
        vo: that the site works for.
        hs23: HEPscore23 of a core; None if nobody measured it.
        bill: of a cloud, if one comes.
        bill_hours: between two readings of it.
        ledger_mib: of the claim; None for a ledger that goes with its pod.
        storage_class: of the claim; None for the cluster's own choice.
        series: what is made of the ledger, if anywhere.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    currency: str
    per_day: float | None = None
    per_month: float | None = None
    core_hour: float | None = None
    vo: str
    hs23: float | None = None
    bill: Bill | None = None
    bill_hours: int = 6
    ledger_mib: int | None = None
    storage_class: str | None = None
    series: Series | None = None


class Accounting(pulumi.ComponentResource):
    """The site's books.

    Attributes:
        metrics: where Prometheus may ask.
        series: what is made of the ledger, if anywhere.
    """

    metrics: str
    series: Series | None

    def __init__(
        self,
        name: str,
        args: AccountingArgs,
        opts: pulumi.ResourceOptions | None = None,
        *,
        needs: Sequence[pulumi.Resource] = (),
    ) -> None:
        """Declares the service.

        Args:
            name: of the component.
            args: what it is made of.
            opts: of the component.
            needs: what must be there before the service starts.
        """
        super().__init__("atlas-sites:index:Accounting", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        ledger = pods.store(LEDGER, "512Mi", None if args.ledger_mib is None else LEDGER)
        described = service.ServiceArgs(
            site=args.site,
            namespace=args.namespace,
            priority=args.priority,
            image=args.image,
            name=NAME,
            # The claim is one node's at a time. Two would do no harm, and one is enough.
            strategy=apps.DeploymentStrategyArgs(type="Recreate"),
            environment=environment(args),
            files={vacuum.POOLS_DIRECTORY: vacuum.POOLS},
            volumes={LEDGER_DIRECTORY: ledger, **_series_volume(args.series)},
            account_annotations=identity(args.bill),
            pod_labels={"azure.workload.identity/use": "true"} if args.bill and args.bill.source == "azure" else {},
            cores="20m",
            # 10,000 pods are seen in 90 MiB; a bill is taken in page by page.
            memory="256Mi",
        )
        account = service.account(f"{name}-account", described, own)
        first: list[pulumi.Resource] = [
            account,
            service.allowed(name, described, rules(args), account, own),
            # The role is the vacuum controller's: which pool a node is of, its labels tell.
            service.bound_everywhere(
                f"{name}-nodes-binding",
                meta.ObjectMetaArgs(name=f"{naming.node_reader(args.site)}-{NAME}", labels=labels(args.site, NAME)),
                naming.node_reader(args.site),
                (NAME, args.namespace),
                [account],
                own,
            ),
            *needs,
        ]
        if args.per_day is not None or args.per_month is not None:
            first.append(
                core.ConfigMap(
                    f"{name}-budget",
                    metadata=_metadata(BUDGET, args),
                    opts=pulumi.ResourceOptions(parent=self, ignore_changes=["data"]),
                )
            )
        if args.ledger_mib is not None:
            first.append(_claim(name, args, args.ledger_mib, own))
        service.deployment(f"{name}-service", described, self, first)
        service.metrics(f"{name}-metrics", described, own)
        self.metrics = service.metrics_address(args.site, NAME)
        self.series = args.series
        self.register_outputs({"metrics": self.metrics})


def environment(args: AccountingArgs) -> dict[str, str]:
    """What the service is told; services/accounting/options.py reads it."""
    told = {
        "SITE": args.site,
        "LEDGER": f"{LEDGER_DIRECTORY}/ledger.db",
        "CURRENCY": args.currency,
        "VO": args.vo,
        "BILL_HOURS": str(args.bill_hours),
    }
    for variable, number in (
        ("BUDGET_PER_DAY", args.per_day),
        ("BUDGET_PER_MONTH", args.per_month),
        ("CORE_HOUR_PRICE", args.core_hour),
        ("HS23_PER_CORE", args.hs23),
    ):
        if number is not None:
            told[variable] = f"{number:.6f}".rstrip("0").rstrip(".")
    if args.series is not None:
        told |= {"SERIES_URL": args.series.url, "SERIES_DATABASE": args.series.database}
        if args.series.secret is not None:
            told["SERIES_SECRET"] = SERIES_DIRECTORY
    if args.bill is not None:
        told["BILL"] = args.bill.source
        match args.bill.source:
            case "azure":
                told |= {"SUBSCRIPTION": args.bill.subscription, "RESOURCE_GROUPS": ",".join(args.bill.groups)}
            case "google":
                told["EXPORT_TABLE"] = args.bill.table
            case _:
                told["AWS_ROLE_ARN"] = args.bill.identity
    return told


def identity(bill: Bill | None) -> Mapping[str, str]:
    """The annotation by which a cloud lets the service account stand for an identity of its own."""
    if bill is None:
        return {}
    keys = {
        "azure": "azure.workload.identity/client-id",
        "google": "iam.gke.io/gcp-service-account",
        "aws": "eks.amazonaws.com/role-arn",
    }
    return {keys[bill.source]: bill.identity}


def rules(args: AccountingArgs) -> list[rbac.PolicyRuleArgs]:
    """All that the accounting may do in its own namespace."""
    found = [
        rbac.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=["list", "watch"]),
        rbac.PolicyRuleArgs(api_groups=[vacuum.GROUP], resources=["startdsets"], verbs=["list", "watch"]),
    ]
    if args.per_day is not None or args.per_month is not None:
        found += [
            rbac.PolicyRuleArgs(api_groups=[""], resources=["configmaps"], resource_names=[BUDGET], verbs=["patch"]),
            rbac.PolicyRuleArgs(api_groups=[""], resources=["events"], verbs=["create"]),
        ]
    return found


def _series_volume(series: Series | None) -> dict[str, core.VolumeArgs]:
    if series is None or series.secret is None:
        return {}
    # A Secret that is not there yet holds up the series, which wait in the ledger, and not the books.
    secret = core.SecretVolumeSourceArgs(secret_name=series.secret, optional=True)
    return {SERIES_DIRECTORY: core.VolumeArgs(name="series", secret=secret)}


def _claim(name: str, args: AccountingArgs, mib: int, own: pulumi.ResourceOptions) -> core.PersistentVolumeClaim:
    metadata = meta.ObjectMetaArgs(
        name=LEDGER,
        namespace=args.namespace,
        labels=labels(args.site, NAME),
        annotations=pods.WAITS_FOR_ITS_POD,
    )
    return pods.claim(f"{name}-ledger", metadata, mib, args.storage_class, own)


def _metadata(name: str, args: AccountingArgs) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=name, namespace=args.namespace, labels=labels(args.site, NAME))
