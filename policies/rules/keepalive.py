"""Keepalive: idle connections to the pool must outlive whatever on their way forgets idle connections."""

from collections.abc import Iterator, Mapping

from pulumi_policy import PolicyConfigSchema, ResourceValidationArgs, Severity

from rules.clouds import AZURE_CLUSTER, AZURE_GATEWAY, GOOGLE_NAT
from rules.pods import STARTD_SET, environment, pod_of
from rules.rule import at, items, rule

VARIABLE = "KEEPALIVE_SECONDS"
SYSCTLS = ("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl")
IDLE_KEY = "idleTimeoutSeconds"
# The shortest that a site meets by default: Azure's NAT gateway and load balancer.
IDLE_SECONDS = 240
MARGIN = 1.2


def _check(args: ResourceValidationArgs) -> Iterator[str]:
    pod = pod_of(args)
    idle = args.get_config().get(IDLE_KEY, IDLE_SECONDS)
    most = int(idle / MARGIN)
    startds = [container for container in items(pod.spec, "containers") if container["name"] == "startd"]
    told = {VARIABLE: dict(environment(startds[0])).get(VARIABLE) if startds else None}
    kernel = {sysctl["name"]: str(sysctl["value"]) for sysctl in items(at(pod.spec, "securityContext"), "sysctls")}
    told |= {name: kernel.get(name) for name in SYSCTLS}
    for name, seconds in told.items():
        if seconds is None:
            yield f"{args.name} does not set {name}"
        elif not seconds.isdecimal() or not 0 < int(seconds) <= most:
            yield f"{args.name} sets {name} to {seconds}; the idle time-out of {idle:g} s allows at most {most}"


# Where each cloud's way out says how long, and how many seconds the number stands for. A cluster of AKS says it for one
# of two ways; a gateway of ours is looked at by itself.
_LENGTHS: Mapping[str, tuple[tuple[str, ...], int]] = {
    AZURE_GATEWAY: (("idleTimeoutInMinutes",), 60),
    GOOGLE_NAT: (("tcpEstablishedIdleTimeoutSec",), 1),
    "loadBalancer": (("networkProfile", "loadBalancerProfile", "idleTimeoutInMinutes"), 60),
    "managedNATGateway": (("networkProfile", "natGatewayProfile", "idleTimeoutInMinutes"), 60),
}


def _check_clouds(args: ResourceValidationArgs) -> Iterator[str]:
    is_cluster = args.resource_type == AZURE_CLUSTER
    # AKS takes its load balancer where nothing is said.
    way = str(
        at(args.props, "networkProfile").get("outboundType", "loadBalancer") if is_cluster else args.resource_type
    )
    if way not in _LENGTHS:
        return
    place, seconds = _LENGTHS[way]
    length = at(args.props, *place[:-1]).get(place[-1])
    if not length:
        yield f"{args.name} leaves {'.'.join(place)} to the cloud, whose default may be as short as 4 minutes"
    elif length * seconds < IDLE_SECONDS:
        yield f"{args.name} forgets idle connections after {length * seconds:g} s; allowed: at least {IDLE_SECONDS}"


RULES = (
    rule(
        name="keepalive-below-idle-timeout",
        description=(
            "Startds give a sign of life on idle connections, their payloads' too, "
            f"within the shortest idle time-out on the way divided by {MARGIN}."
        ),
        severity=Severity.HIGH,
        remedy="Lower keepaliveSeconds of the site, or raise the idle time-out and tell this rule.",
        kinds={STARTD_SET},
        check=_check,
        config=PolicyConfigSchema(properties={IDLE_KEY: {"type": "integer", "minimum": 30, "default": IDLE_SECONDS}}),
    ),
    rule(
        name="idle-timeout-is-set",
        description="Each way out of our clusters has an idle time-out that the stack chose, and not too short a one.",
        severity=Severity.HIGH,
        remedy="Set it, at least as long as the rule keepalive-below-idle-timeout assumes.",
        kinds={AZURE_CLUSTER, AZURE_GATEWAY, GOOGLE_NAT},
        check=_check_clouds,
    ),
)
