"""What lines of the kernel's log mean, by rules in the format of node-problem-detector. Pure.

`rules/kernel.json` is a configuration of its system log monitor, `rules/counters.json` one of its custom plug-in
monitor whose rules call its log-counter; a node-problem-detector that runs elsewhere takes both files as they are. As
there, a pattern must match up to the end of a line.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).with_name("rules")
LOG_COUNTER = "log-counter"
REMEMBERED = 100  # lines of each rule that counts; no rule counts so far
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the kernel's log.

    Attributes:
        at: POSIX seconds.
        text: without time and priority.
    """

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a line means.

    Attributes:
        reason: one word in camel case.
        pattern: of the line.
        condition: that it makes true; None if it is only counted.
        count: so many lines
        lookback: within so many seconds; infinite: a single one, which nothing but a reboot takes back.
    """

    reason: str
    pattern: re.Pattern[str]
    condition: str | None = None
    count: int = 1
    lookback: float = float("inf")

    def matches(self, line: Line) -> bool:
        """Whether the line is one of those."""
        return self.pattern.search(line.text) is not None


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is known of one type of problem now.

    Attributes:
        kind: its type.
        true: there is a problem.
        reason, message: what it is, or that there is none.
    """

    kind: str
    true: bool
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All of them.

    Attributes:
        rules: in the order of the files.
        well: what is said of each condition while there is no problem.
    """

    rules: tuple[Rule, ...]
    well: Mapping[str, Condition]

    @property
    def memory(self) -> float:
        """How many seconds of lines count for the rules that count."""
        return max(rule.lookback for rule in self.rules if rule.lookback != float("inf"))


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it, as in 1h5m.

    Raises:
        ValueError: it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration, as in 5m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def read(files: Iterable[Path] | None = None) -> Rules:
    """Reads configurations.

    Raises:
        ValueError: one cannot be used; with its name and what is wrong.
    """
    rules: list[Rule] = []
    well: dict[str, Condition] = {}
    for file in sorted(DIRECTORY.glob("*.json")) if files is None else files:
        try:
            content = json.loads(file.read_text())
            for each in content["conditions"]:
                said = Condition(kind=each["type"], true=False, reason=each["reason"], message=each["message"])
                well.setdefault(each["type"], said)
            rules += [_rule(each, well) for each in content["rules"]]
        except (KeyError, TypeError, ValueError, re.error) as error:
            raise ValueError(f"{file.name} cannot be used ({type(error).__name__}: {error})") from error
    return Rules(rules=tuple(rules), well=well)


def _rule(raw: Mapping[str, Any], declared: Mapping[str, Condition]) -> Rule:
    condition = declared[raw["condition"]].kind if raw["type"] == "permanent" else None
    if "path" not in raw:
        return Rule(reason=raw["reason"], pattern=_pattern(raw["pattern"]), condition=condition)
    if Path(raw["path"]).name != LOG_COUNTER:
        raise ValueError(f"rule {raw['reason']} calls {raw['path']}; only {LOG_COUNTER} is known")
    words = dict(word.removeprefix("--").split("=", 1) for word in raw["args"])
    return Rule(
        reason=raw["reason"],
        pattern=_pattern(words["pattern"]),
        condition=condition,
        count=int(words["count"]),
        lookback=duration(words["lookback"]),
    )


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(f"(?:{text})\\Z")


def judge(rules: Rules, lines: Sequence[Line], *, now: float, quiet: float) -> dict[str, Condition]:
    """Each condition as the lines have it.

    Args:
        rules: to judge by.
        lines: since the node booted, in the order of time.
        now: POSIX seconds.
        quiet: a problem that lines were counted for is over after so many seconds without another one.
    """
    conditions = dict(rules.well)
    for rule in rules.rules:
        if rule.condition is None or conditions[rule.condition].true:
            continue
        found = [line for line in lines if rule.matches(line)]
        if len(found) >= rule.count and _now(rule, found, now, quiet):
            conditions[rule.condition] = Condition(
                kind=rule.condition, true=True, reason=rule.reason, message=found[-1].text[:200]
            )
    return conditions


def remember(rules: Rules, lines: Sequence[Line], *, now: float, quiet: float) -> list[Line]:
    """Those of the lines that may still make a difference: the last of each rule, and what counts."""
    kept: set[int] = set()
    for rule in rules.rules:
        if rule.condition is not None:
            places = [place for place, line in enumerate(lines) if rule.matches(line)]
            kept.update(places[-1:] if rule.lookback == float("inf") else places[-REMEMBERED:])
    oldest = now - rules.memory - quiet
    permanent = [rule for rule in rules.rules if rule.condition is not None and rule.lookback == float("inf")]
    return [
        line
        for place, line in enumerate(lines)
        if place in kept and (line.at >= oldest or any(rule.matches(line) for rule in permanent))
    ]


def _now(rule: Rule, found: Sequence[Line], now: float, quiet: float) -> bool:
    """Whether there were so many in so short a time, and the last of them, or one since, not long ago."""
    if rule.lookback == float("inf"):
        return True
    if now - found[-1].at >= quiet:
        return False
    # Back from the last line, as long as no pause between two was so long that the problem was over.
    spell = [found[-1]]
    for line in reversed(found[:-1]):
        if spell[-1].at - line.at >= max(quiet, rule.lookback):
            break
        spell.append(line)
    spell.reverse()
    return any(last.at - first.at < rule.lookback for first, last in zip(spell, spell[rule.count - 1 :], strict=False))
