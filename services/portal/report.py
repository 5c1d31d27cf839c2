"""What a site tells the hub of itself: one report, whole each time, the same model on both sides of the wire.

What nobody could learn is None, never nought. Keys that a later release adds are passed over, so that sites may be
newer than the hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

VERSION: Literal[1] = 1
MOST_STARTDS = 100_000
MOST_EVENTS = 100
MOST_ROWS = 1000

# Names that Kubernetes would take; they become parts of addresses.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Word = Annotated[str, Field(max_length=253)]
Sentence = Annotated[str, Field(max_length=4096)]
Moment = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class Part(BaseModel):
    """Of a report: frozen, keys in camelCase; times are POSIX seconds in UTC unless they are RFC 3339 texts."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Limits(Part):
    """What a StartdSet's spec allows."""

    pods: Number
    cores: Number | None = None
    memory_mib: Number | None = None
    cost_per_hour: Word | float | None = None


class Count(Part):
    """How many startds a set has, as its status says."""

    total: Number = 0
    running: Number = 0
    unproven: Number = 0
    proven: Number = 0


class Circuit(Part):
    """Whether new startds are made."""

    state: Word = ""
    level: Number = 0
    until: Word | None = None


class Bound(Part):
    """One limit, and the numbers that it follows from."""

    name: Word
    startds: int | None = None
    because: Sentence = ""
    stale: bool = False


class Condition(Part):
    """One condition of a set."""

    type: Word
    status: Word
    reason: Word = ""
    message: Sentence = ""
    last_transition_time: Word | None = None


class Outcome(Part):
    """What became of one startd."""

    name: Word
    what: Word = Field(alias="class")
    reason: Word = ""
    at: Word | None = None
    seconds: float | None = None
    node: Word = ""


class Blamed(Part):
    """A node that new startds avoid."""

    name: Word
    until: Word | None = None
    reason: Word = ""


class SetStatus(Part):
    """What the vacuum controller says of a set."""

    state: Word = ""
    message: Sentence = ""
    limit: Number | None = None
    startds: Count | None = None
    window: Number | None = None
    circuit: Circuit = Circuit()
    outcomes: Annotated[Mapping[Word, Number], Field(max_length=MOST_ROWS)] = {}
    bounds: Annotated[tuple[Bound, ...], Field(max_length=MOST_ROWS)] = ()
    conditions: Annotated[tuple[Condition, ...], Field(max_length=MOST_ROWS)] = ()
    recent: Annotated[tuple[Outcome, ...], Field(max_length=MOST_ROWS)] = ()
    blamed_nodes: Annotated[tuple[Blamed, ...], Field(max_length=MOST_ROWS)] = ()


class StartdSet(Part):
    """One StartdSet: what it may, and what it does."""

    name: Name
    limits: Limits
    status: SetStatus = SetStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class Startd:
    """One startd; there are so many that each is held in a seventh of the memory of a Part.

    `doing` is waiting (for a node), starting, unproven (it runs, and had no payload yet), proven, leaving or ended.
    """

    name: Name
    set: Name
    node: Word = ""
    phase: Word
    doing: Word
    created: Moment


class Event(Part):
    """What an object of the site complains of."""

    at: Moment
    warning: bool
    about: Word
    reason: Word
    message: Sentence
    count: Number = 1


class Squid(Part):
    """One squid; counts since it started, None while it does not answer."""

    name: Name
    requests: float | None = Field(default=None, ge=0)
    hits: float | None = Field(default=None, ge=0)


class Proxy(Part):
    """The proxy that payloads use, and with how many seconds left somebody should look."""

    ends: Moment
    warning: Annotated[float, Field(ge=0)] = 0
    critical: Annotated[float, Field(ge=0)] = 0


class Cost(Part):
    """What the site's ledger says was spent, in UTC days; None where there is no limit."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    today: Amount
    month: Amount
    per_day: Amount | None = None
    per_month: Amount | None = None
    over: bool | None = None


class Report(Part):
    """All that a site tells.

    Attributes:
        time: when the site looked, by its own clock.
        sets, startds, events, squids, proxy, cost: None if the site could not see them; cost also if it keeps no books.
        problems: one sentence for each that it could not see.
    """

    version: Literal[1] = VERSION
    site: Name
    atlas_site: Word
    time: Moment
    sets: Annotated[tuple[StartdSet, ...], Field(max_length=MOST_ROWS)] | None = None
    startds: Annotated[tuple[Startd, ...], Field(max_length=MOST_STARTDS)] | None = None
    events: Annotated[tuple[Event, ...], Field(max_length=MOST_EVENTS)] | None = None
    squids: Annotated[tuple[Squid, ...], Field(max_length=MOST_ROWS)] | None = None
    proxy: Proxy | None = None
    cost: Cost | None = None
    problems: Annotated[tuple[Sentence, ...], Field(max_length=MOST_ROWS)] = ()

    def written(self) -> bytes:
        """As it goes over the wire."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def read(content: bytes) -> Report:
    """A report from the wire.

    Raises:
        ValueError: it is none; one sentence that says where.
    """
    try:
        return Report.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ValueError(f"this is no report: {where}: {first['msg']}") from None
