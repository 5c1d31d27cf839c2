"""Asks a rule about a resource, as the engine would, and says what came of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pulumi_policy import PolicyCustomTimeouts, PolicyResourceOptions, ResourceValidationArgs, ResourceValidationPolicy
from pulumi_policy.policy import _NotApplicableError
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy
from rules import RULES

UNKNOWN = UNKNOWN_STRING_VALUE
BY_NAME = {rule.name: rule for rule in RULES}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a rule said: violations, and whether it did not apply or could not know."""

    violations: tuple[str, ...] = ()
    not_applicable: bool = False
    unknown: bool = False


def about(
    token: str,
    props: Mapping[str, Any],
    *,
    stack: str = "azure",
    config: Mapping[str, Any] | None = None,
    protect: bool = False,
) -> ResourceValidationArgs:
    """A resource of that type, as a rule is handed it."""
    return ResourceValidationArgs(
        resource_type=token,
        props=unknown_checking_proxy(dict(props)),
        urn=f"urn:pulumi:{stack}::atlas-sites::atlas-sites:index:Site${token}::thing",
        name="thing",
        opts=options(protect=protect),
        provider=None,
        config=config,
    )


def options(*, protect: bool = False) -> PolicyResourceOptions:
    return PolicyResourceOptions(
        protect=protect,
        ignore_changes=[],
        delete_before_replace=None,
        aliases=[],
        custom_timeouts=PolicyCustomTimeouts(create_seconds=0, update_seconds=0, delete_seconds=0),
        additional_secret_outputs=[],
    )


def ask(rule: ResourceValidationPolicy, args: ResourceValidationArgs) -> Answer:
    """What that rule says about that resource."""
    violations: list[str] = []

    def report(sentence: str, _urn: str | None) -> None:
        violations.append(sentence)

    try:
        rule.validate(args, report)
    except _NotApplicableError:
        return Answer(not_applicable=True)
    except UnknownValueError:
        return Answer(violations=tuple(violations), unknown=True)
    return Answer(violations=tuple(violations))


def violations(args: ResourceValidationArgs, rules: Iterable[ResourceValidationPolicy] = RULES) -> list[str]:
    """All that any rule finds wrong with that resource."""
    return [f"{rule.name}: {sentence}" for rule in rules for sentence in ask(rule, args).violations]
