"""How a rule is made: what it says about itself, which kinds it is about, and a function from a resource to sentences.

A value that a preview cannot know yet ends a rule when it touches it, and the engine says so; therefore each rule looks
first at what is always known.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    ReportViolation,
    ResourceRemediation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Severity,
)

REASONS = "docs/policies.md"
KUBERNETES = "kubernetes:"
PATCH = "Patch"  # a resource that changes parts of an object has the kind of the object, and this

Check = Callable[[ResourceValidationArgs], Iterable[str]]


def rule(
    *,
    name: str,
    description: str,
    severity: Severity,
    remedy: str,
    kinds: Collection[str],
    check: Check,
    config: PolicyConfigSchema | None = None,
    remediate: ResourceRemediation | None = None,
) -> ResourceValidationPolicy:
    """A rule about Kubernetes objects, or about other resources.

    Args:
        name: in kebab case.
        description: what must be true, in one sentence.
        severity: of a violation.
        remedy: what to change.
        kinds: of objects that the rule is about, or whole types of other resources.
        check: gives one sentence for each violation.
        config: what a user of the pack may set.
        remediate: gives better properties for a resource of any type, or nothing when they are good.
    """

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if kind(args) not in kinds and args.resource_type not in kinds:
            args.not_applicable(f"it is about {', '.join(sorted(kinds))}")
        for sentence in check(args):
            report(f"{sentence}. {remedy}", None)

    return ResourceValidationPolicy(
        name=name,
        description=description,
        validate=validate,
        remediate=remediate,
        enforcement_level=EnforcementLevel.REMEDIATE if remediate else EnforcementLevel.MANDATORY,
        config_schema=config,
        severity=severity,
        remediation_steps=remedy,
        url=f"{REASONS}#{name}",
    )


def kind(args: ResourceValidationArgs) -> str | None:
    """The kind of a Kubernetes object; none for whatever else a stack holds."""
    if not args.resource_type.startswith(KUBERNETES):
        return None
    return args.resource_type.rsplit(":", 1)[-1].removesuffix(PATCH)


def stack(args: ResourceValidationArgs) -> str:
    """The name of the stack, as the resource's URN tells it."""
    return args.urn.split("::")[0].rsplit(":", 1)[-1]


def at(value: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The block of keys at a place; an empty one when there is none."""
    for key in keys:
        value = value.get(key) or {}
    return value


def items(value: Mapping[str, Any], key: str) -> Iterable[Any]:
    """The list under a key; an empty one when there is none."""
    return value.get(key) or ()
