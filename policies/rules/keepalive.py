"""Keepalive: idle connections to the pool must outlive whatever on their way forgets idle connections."""

from collections.abc import Iterator

from pulumi_policy import PolicyConfigSchema, ResourceValidationArgs, Severity

from rules.pods import STARTD_SET, environment, pod_of
from rules.rule import at, items, rule

VARIABLE = "KEEPALIVE_SECONDS"
SYSCTL = "net.ipv4.tcp_keepalive_time"
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
    told[SYSCTL] = {
        sysctl["name"]: str(sysctl["value"]) for sysctl in items(at(pod.spec, "securityContext"), "sysctls")
    }.get(SYSCTL)
    for name, seconds in told.items():
        if seconds is None:
            yield f"{args.name} does not set {name}"
        elif not seconds.isdecimal() or not 0 < int(seconds) <= most:
            yield f"{args.name} sets {name} to {seconds}; the idle time-out of {idle:g} s allows at most {most}"


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
)
