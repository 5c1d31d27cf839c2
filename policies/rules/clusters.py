"""The clouds' clusters: not lost by a mistake, not open to the world, and of a mode in which CVMFS can be mounted."""

from collections.abc import Iterator

from pulumi_policy import ResourceValidationArgs, Severity

from rules.clouds import AZURE_PROVIDER, CLUSTERS
from rules.rule import at, items, rule

EVERYWHERE = frozenset({"0.0.0.0/0", "::/0"})
# Before it any change of a cluster's networkProfile replaced the cluster (pulumi-azure-native#4771).
AZURE_VERSION = (3, 29)


def _check_protection(args: ResourceValidationArgs) -> Iterator[str]:
    if not args.opts.protect:
        yield f"{args.name} is not protected: a changed name or a missing line would delete it with all that runs there"


def _check_mode(args: ResourceValidationArgs) -> Iterator[str]:
    modes = {
        "AKS Automatic": at(args.props, "sku").get("name") == "Automatic",
        "GKE Autopilot": bool(args.props.get("enableAutopilot")),
        "EKS Auto Mode": bool(at(args.props, "computeConfig").get("enabled")),
    }
    for mode, is_on in modes.items():
        if is_on:
            yield f"{args.name} is of {mode}, which forbids the privileged pods that mount CVMFS on each node"


def _check_access(args: ResourceValidationArgs) -> Iterator[str]:
    props = args.props
    blocks = items(at(props, "masterAuthorizedNetworksConfig"), "cidrBlocks")
    if at(props, "vpcConfig").get("endpointPublicAccess") is False:
        return
    if at(props, "masterAuthorizedNetworksConfig").get("gcpPublicCidrsAccessEnabled"):
        yield f"The API server of {args.name} may be reached from all of Google Cloud"
    networks = [
        *items(at(props, "apiServerAccessProfile"), "authorizedIPRanges"),
        *(block["cidrBlock"] for block in blocks),
        *items(at(props, "vpcConfig"), "publicAccessCidrs"),
    ]
    if not networks:
        yield f"The API server of {args.name} may be reached from everywhere"
    for network in networks:
        if network in EVERYWHERE:
            yield f"The API server of {args.name} may be reached from {network}"


def _check_version(args: ResourceValidationArgs) -> Iterator[str]:
    version = args.props.get("version")
    if version and tuple(map(int, str(version).split(".")[:2])) < AZURE_VERSION:
        yield f"{args.name} has version {version}, in which a changed idle time-out replaces the cluster"


RULES = (
    rule(
        name="protected-clusters",
        description="No cluster is deleted or replaced before somebody said that it may be.",
        severity=Severity.CRITICAL,
        remedy="Set the option protect.",
        kinds=CLUSTERS,
        check=_check_protection,
    ),
    rule(
        name="no-managed-modes",
        description="A cluster's mode allows privileged pods: AKS Base, GKE Standard, EKS with nodes of ours.",
        severity=Severity.HIGH,
        remedy="Choose the cloud's standard mode.",
        kinds=CLUSTERS,
        check=_check_mode,
    ),
    rule(
        name="api-server-not-open-to-all",
        description="An API server may be reached from networks that the stack names.",
        severity=Severity.HIGH,
        remedy="Name them as cluster.authorizedNetworks of the site.",
        kinds=CLUSTERS,
        check=_check_access,
    ),
    rule(
        name="idle-timeout-keeps-the-cluster",
        description="The provider of AKS is of a version that changes an idle time-out in place.",
        severity=Severity.CRITICAL,
        remedy=f"Install pulumi-azure-native {'.'.join(map(str, AZURE_VERSION))} or later.",
        kinds={AZURE_PROVIDER},
        check=_check_version,
    ),
)
