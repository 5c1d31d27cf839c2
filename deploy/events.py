"""What an engine did, or would do, to each site: read from its event log.

`pulumi preview --json` leaves policies out, so the log of events is read in its place, which `up` and `destroy` write
in the same form. It holds the names of properties and no secret values; of what it holds only names go on from here.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SITE = "atlas-sites:index:Site"
STACK = "pulumi:pulumi:Stack"
# What belongs to no site: the stack itself and the providers that sites share.
NO_SITE = ""

Kind = Literal["create", "update", "replace", "delete"]
KINDS: Mapping[str, Kind] = {
    "create": "create",
    "import": "create",
    "update": "update",
    "replace": "replace",
    "create-replacement": "replace",
    "import-replacement": "replace",
    "delete-replaced": "replace",
    "delete": "delete",
}
# As settings and clusters say it of a site whose cluster cannot be reached.
OF_A_SITE = re.compile(r"site ([a-z0-9-]+): ")
# What the engine says in the end of every failure, and nothing else with it.
CONCLUSION = re.compile(r"(update|preview|destroy|refresh) failed")
MESSAGE_LENGTH = 600
# The severity of what the program prints on its standard error.
PRINTED = "info#err"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is done to one resource.

    Attributes:
        kind: of operation.
        site: whose it is.
        type, name: of the resource.
        custom: a thing outside the program; else it only groups others.
        properties: paths of those that change, or because of which it is replaced.
    """

    kind: Kind
    site: str
    type: str
    name: str
    custom: bool
    properties: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What could not be done: the resource, if it was about one, and the reason on one line."""

    site: str
    name: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Violation:
    """What a policy says of a resource; a mandatory one stops an update."""

    site: str
    name: str
    policy: str
    mandatory: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Nodes that a site may have at most, and the price of one for an hour, if it is known."""

    most: int
    price_per_hour: float | None


# Of each site; None where nobody knows of its nodes.
Pools = Mapping[str, Sequence[Pool] | None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One preview, update or destruction of a stack.

    Attributes:
        preview: nothing was done.
        ended: what the engine says of it; None when it did not come to an end.
        sites: all of the stack, in alphabetical order, with those that go.
        operations: that change something, once for each resource; of an update, those that succeeded.
        failures, violations: as they came.
        pools_before, pools_after: of each site; None when that is not known, as after a program that failed.
    """

    preview: bool
    ended: Literal["succeeded", "failed", "canceled"] | None
    sites: Sequence[str] = ()
    operations: Sequence[Operation] = ()
    failures: Sequence[Failure] = ()
    violations: Sequence[Violation] = ()
    pools_before: Pools | None = None
    pools_after: Pools | None = None

    @property
    def clean(self) -> bool:
        """Whether it ended well and changed nothing."""
        return self.ended == "succeeded" and not (self.operations or self.failures)


def read(lines: Iterable[str]) -> Run:
    """An event log, one JSON object a line; what a log that was cut short holds counts."""
    return _Reader(events=[event for line in lines if (event := _event(line))]).run()


def _event(line: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return event


@dataclass
class _Reader:
    events: Sequence[Mapping[str, Any]]
    parents: dict[str, str] = field(default_factory=dict)

    def run(self) -> Run:
        steps = [(kind, event[kind]["metadata"]) for event in self.events for kind in STEPS if kind in event]
        for _, step in steps:
            for state in _states(step):
                self.parents[state["urn"]] = state["parent"]
        summary: Mapping[str, Any] = next((e["summaryEvent"] for e in self.events if "summaryEvent" in e), {})
        # A preview only plans; of an update the outcome counts.
        preview = any(event[kind].get("planning") for event in self.events for kind in STEPS if kind in event)
        preview = summary.get("isPreview", preview)
        old, new = _stack_states(steps)
        failures = self._failures()
        sites = {_name(urn) for urn in self.parents if _type(urn) == SITE} | {failure.site for failure in failures}
        return Run(
            preview=preview,
            ended=summary.get("result"),
            sites=sorted(sites - {NO_SITE}),
            operations=self._operations(step for kind, step in steps if kind == (PLANNED if preview else DONE)),
            failures=failures,
            violations=[self._violation(event["policyEvent"]) for event in self.events if "policyEvent" in event],
            pools_before=_pools(old),
            pools_after=_pools(new),
        )

    def _operations(self, steps: Iterable[Mapping[str, Any]]) -> Sequence[Operation]:
        found: dict[str, Operation] = {}
        for step in steps:
            kind = KINDS.get(step["op"])
            if kind is None:
                continue
            urn = step["urn"]
            properties = step.get("keys") or sorted(step.get("detailedDiff") or ()) or step.get("diffs") or ()
            earlier = found.get(urn)
            found[urn] = Operation(
                kind=kind,
                site=self._site(urn),
                type=_type(urn),
                name=_name(urn),
                custom=any(state.get("custom", False) for state in _states(step)),
                # A replacement is several steps, and the deletion among them gives no reasons.
                properties=tuple(properties) or (earlier.properties if earlier else ()),
            )
        return list(found.values())

    def _failures(self) -> Sequence[Failure]:
        said = [self._failure(None, message) for message in self._printed()]
        for event in self.events:
            diagnostic = event.get("diagnosticEvent", {})
            message = _line(diagnostic.get("message", ""))
            if diagnostic.get("severity") == "error" and message and not CONCLUSION.fullmatch(message):
                said.append(self._failure(diagnostic.get("urn"), message))
        told = {failure.name for failure in said}
        for event in self.events:
            urn = event["resOpFailedEvent"]["metadata"]["urn"] if "resOpFailedEvent" in event else None
            if urn is not None and _name(urn) not in told:
                said.append(self._failure(urn, "the operation failed"))
        return list(dict.fromkeys(said))

    def _printed(self) -> Sequence[str]:
        """Errors that the program printed before it was connected; a traceback, which may hold values, is left out."""
        found: list[str] = []
        within = False
        for event in self.events:
            diagnostic = event.get("diagnosticEvent", {})
            if diagnostic.get("severity") != PRINTED:
                continue
            message = diagnostic["message"].strip()
            begins = message.startswith("error: ")
            within = begins or (within and not message.startswith("Traceback "))
            if begins:
                found.append(message.removeprefix("error: "))
            elif within:
                found[-1] = f"{found[-1]} {message}"
        return [_line(message) for message in found]

    def _failure(self, urn: str | None, message: str) -> Failure:
        of_a_site = OF_A_SITE.match(message)
        if of_a_site:
            return Failure(site=of_a_site[1], name=None, message=message[of_a_site.end() :])
        resource = urn if urn and _type(urn) != STACK else None
        return Failure(
            site=self._site(resource) if resource else NO_SITE,
            name=_name(resource) if resource else None,
            message=message,
        )

    def _violation(self, event: Mapping[str, Any]) -> Violation:
        urn = event.get("resourceUrn", "")
        # The first line is the description of the policy, which is the same for all.
        description, _, own = event["message"].strip().partition("\n")
        return Violation(
            site=self._site(urn),
            name=_name(urn),
            policy=event["policyName"],
            mandatory=event["enforcementLevel"] == "mandatory",
            message=_line(own or description),
        )

    def _site(self, urn: str) -> str:
        """The site whose component is above a resource, by the chain of its parents."""
        while urn and _type(urn) != SITE:
            urn = self.parents.get(urn, "")
        return _name(urn) if urn else NO_SITE


PLANNED, DONE = "resourcePreEvent", "resOutputsEvent"
STEPS = (PLANNED, DONE, "resOpFailedEvent")


def _stack_states(
    steps: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The stack's own state before and after, each None if it is not told.

    The engine tells of the stack when the program begins, with its former outputs, and again when it has its new ones,
    after the sites; a program that fails on its way never gets there.
    """
    of_the_run = [(kind, step) for kind, step in steps if step["op"] != "refresh"]
    first = next((step for _, step in of_the_run if step["type"] == STACK), None)
    before = None if first is None else first["old"] or {"outputs": {"sites": {}}}
    sites = [index for index, (_, step) in enumerate(of_the_run) if step["type"] == SITE]
    told = [
        step["new"]
        for kind, step in of_the_run[min(sites, default=0) :]
        if kind == DONE and step["type"] == STACK
    ]  # fmt: skip
    return before, told[-1] if sites and told else None


def _states(step: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [step[age] for age in ("old", "new") if step[age]]


def _type(urn: str) -> str:
    """As in kubernetes:core/v1:Pod, of `urn:pulumi:STACK::PROJECT::PARENT'S$OWN::NAME`."""
    return urn.split("::")[2].rsplit("$", 1)[-1] if urn.count("::") >= 3 else ""


def _name(urn: str) -> str:
    return urn.split("::", 3)[-1]


def _line(message: str) -> str:
    words = " ".join(message.split())
    return words if len(words) <= MESSAGE_LENGTH else f"{words[: MESSAGE_LENGTH - 1]}…"


def _pools(state: Mapping[str, Any] | None) -> Pools | None:
    """What the outputs of a stack, as docs/outputs.schema.json describes them, say of node pools."""
    if state is None or "sites" not in state["outputs"]:
        return None
    found = {name: site["cluster"].get("pools") for name, site in state["outputs"]["sites"].items()}
    return {
        name: None
        if pools is None
        # What retires makes no new nodes, and goes while its successor comes: the policy on costs leaves it out too.
        else [
            Pool(most=int(pool["max"]), price_per_hour=pool.get("pricePerHour"))
            for pool in pools
            if not pool.get("retiring")
        ]
        for name, pools in found.items()
    }
