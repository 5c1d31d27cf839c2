"""The command line of stacks: `python -m deploy COMMAND`; the Makefile and the workflows have no other logic."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy import drift, engine, github, images, outcome, summary
from deploy.events import Run
from deploy.markdown import Section, join

# The one of the machine that it runs on.
LOCAL_STACK = "dev"
LABEL = "drift"
STACK = re.compile(r"([A-Za-z0-9_.-]+/){0,2}[A-Za-z0-9_.-]+")
# As components.naming.is_site_name; `deploy` imports nothing that needs Pulumi's SDK.
SITE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, what in (
        ("preview", "show what would become of each site"),
        ("up", "make sites as the stack says"),
        ("destroy", "take sites down, each startd after its last job"),
    ):
        one = commands.add_parser(name, help=what)
        one.add_argument("--stack", required=True, type=_stack)
        one.add_argument("--site", type=_site, help="this site alone; all of the stack by default")
        if name == "preview":
            one.add_argument("--summary", type=Path, metavar="FILE", help="write what a reviewer reads there")
            one.add_argument(
                "--drift", type=Path, metavar="FILE", help="look at what is there and write the difference"
            )
        else:
            one.add_argument("--yes", action="store_true", help="ask nobody")
    commands.add_parser("stacks", help="print the stacks of the checkout as JSON, for the matrix of a workflow")
    one = commands.add_parser("references", help="print name and reference of each image of an images: block")
    one.add_argument("--images", required=True, type=Path, metavar="FILE", help="with the block")
    for name, what in (
        ("comment", "put summaries into the comment on a pull request"),
        ("issue", "put differences into the issue about drift"),
    ):
        one = commands.add_parser(name, help=what)
        one.add_argument("--from", dest="sections", required=True, type=Path, metavar="DIRECTORY")
        one.add_argument("--stacks", required=True, type=json.loads, help="all that should be there, as JSON")
        if name == "comment":
            one.add_argument("--number", required=True, type=int, help="of the pull request")
    return top


def _stack(text: str) -> str:
    if STACK.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not the name of a stack")


def _site(text: str) -> str:
    if SITE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not the name of a site")


def stacks(directory: Path) -> Sequence[str]:
    """The stacks that have settings there, but for the local one."""
    found = (file.name.removeprefix("Pulumi.").removesuffix(".yaml") for file in directory.glob("Pulumi.*.yaml"))
    return sorted(stack for stack in found if stack != LOCAL_STACK)


def act(options: argparse.Namespace) -> int:
    """Runs the engine and tells what became of each site; the exit code."""
    drifting = getattr(options, "drift", None)
    status, run = engine.run(
        engine.Request(
            command=options.command,
            stack=options.stack,
            site=options.site,
            refresh=drifting is not None,
            yes=getattr(options, "yes", False),
        )
    )
    if run.sites:
        print(f"\n{outcome.table(run, options.site)}")
    for file, section in ((getattr(options, "summary", None), summary.section), (drifting, drift.section)):
        if file is not None:
            file.write_text(section(options.stack, run).to_json(), encoding="utf-8")
    return verdict(options, status, run)


def verdict(options: argparse.Namespace, status: int, run: Run) -> int:
    """The exit code: the engine's, but that it is content with a site that does not exist, and not with a drift."""
    if getattr(options, "drift", None) is not None and run.ended == "succeeded":
        return 0
    if status == 0 and options.site is not None and options.site not in run.sites:
        known = ", ".join(run.sites) or "none"
        print(f"error: stack {options.stack} has no site {options.site}; its sites: {known}", file=sys.stderr)
        return 1
    return status


def post(options: argparse.Namespace) -> int:
    """Tells GitHub what the jobs of a workflow found."""
    sections = [Section.from_json(file.read_text(encoding="utf-8")) for file in sorted(options.sections.glob("*.json"))]
    missing = set(options.stacks) - {section.stack for section in sections}
    api = github.Rest(
        url=os.environ["GITHUB_API_URL"], repository=os.environ["GITHUB_REPOSITORY"], token=os.environ["GITHUB_TOKEN"]
    )
    if options.command == "comment":
        body = join(summary.HEAD, sections, missing=missing)
        github.comment(api, options.number, summary.MARKER, body)
    else:
        github.keep(api, drift.MARKER, LABEL, drift.issue(sections, missing=missing))
    return 0


def main(words: Sequence[str]) -> int:
    """Runs one command; the exit code of the process."""
    options = parser().parse_args(words)
    try:
        match options.command:
            case "stacks":
                print(json.dumps(stacks(Path.cwd())))
                return 0
            case "references":
                for name, reference in images.references(options.images.read_text(encoding="utf-8")).items():
                    print(name, reference)
                return 0
            case "comment" | "issue":
                return post(options)
            case _:
                return act(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
