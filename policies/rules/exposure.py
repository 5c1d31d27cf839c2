"""Doors to the outside: a site has none. Startds and squids reach out, and are reached only from within the cluster."""

from collections.abc import Iterator

from pulumi_policy import ResourceValidationArgs, Severity

from rules.rule import at, items, kind, rule

DOORS = frozenset({"Ingress", "Gateway", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "Route"})
OPEN_TYPES = ("LoadBalancer", "NodePort")


def _check(args: ResourceValidationArgs) -> Iterator[str]:
    found = kind(args)
    if found in DOORS:
        yield f"{found} {args.name} opens a Service to the outside"
        return
    spec = at(args.props, "spec")
    if spec.get("type") in OPEN_TYPES:
        yield f"Service {args.name} has type {spec['type']}, which opens it to the outside"
    if addresses := list(items(spec, "externalIPs")):
        yield f"Service {args.name} answers at addresses outside the cluster: {', '.join(addresses)}"


RULES = (
    rule(
        name="no-public-squid",
        description="No Service of a site, a squid's least of all, can be reached from outside its cluster.",
        severity=Severity.CRITICAL,
        remedy="Use type ClusterIP and no Ingress; let what is outside be reached by outbound connections.",
        kinds=DOORS | {"Service"},
        check=_check,
    ),
)
