"""What a regular check says: where what is there is no longer what the stacks say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy.events import Kind, Run
from deploy.markdown import Section, bullets, code, join, plain
from deploy.summary import things

MARKER = "<!-- atlas-sites: drift -->"
TITLE = "Sites are not as their stacks say"
HEAD = f"""{MARKER}
Somebody or something changed what Pulumi made. `pulumi preview --refresh` shows each value; `pulumi up --refresh` makes
it again as the stack says, and a change that is meant to stay belongs in the stack. The check keeps this issue up to
date and closes it."""
NOTHING = f"{MARKER}\nEvery site is as its stack says."
# What `up` would do tells what became of a thing.
WHAT_BECAME: Mapping[Kind, str] = {
    "create": "is gone",
    "update": "was changed",
    "replace": "was changed, and would be replaced",
    "delete": "is there and in no stack",
}


@dataclass(frozen=True, kw_only=True)
class Issue:
    """The one issue about drift, as it should be."""

    title: str
    body: str
    open: bool


def section(stack: str, run: Run) -> Section:
    """A preview with a refresh as Markdown: each thing that drifted with the names of its properties, never values."""
    drifted = [
        f"{plain(each.site or stack)} {code(each.name)}, {code(each.type)}, {WHAT_BECAME[each.kind]}"
        + (f": {', '.join(map(code, each.properties))}" if each.properties else "")
        for each in things(run)
    ]
    failed = [f"{plain(each.site or stack)}: {plain(each.message)}" for each in run.failures]
    if run.ended != "succeeded" and not failed:
        failed = ["The run tells why."]
    lines = [f"### {plain(stack)}", *bullets("Drifted", drifted), *bullets("Could not be checked", failed)]
    return Section(stack=stack, clean=run.clean, text="\n".join(lines))


def issue(sections: Sequence[Section], *, missing: Iterable[str] = ()) -> Issue:
    """The issue about all stacks; it is open while one of them drifts or could not be checked.

    Args:
        sections: one for each stack that was checked.
        missing: stacks whose check ended without one.
    """
    lost = list(missing)
    wrong = [section for section in sections if not section.clean]
    if not wrong and not lost:
        return Issue(title=TITLE, body=NOTHING, open=False)
    return Issue(title=TITLE, body=join(HEAD, wrong, missing=lost), open=True)
