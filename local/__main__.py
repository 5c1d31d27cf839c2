"""The command line of the local site: `python -m local COMMAND`; the Makefile has a target for each."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from local import site
from local.refusal import Refusal

NODES = ("1", "2")
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring up the dev site")
    up.add_argument("--kubeconfig", type=path, help="use the cluster of this file in place of a node on this machine")
    up.add_argument("--context", help="the context of that file; its current one by default")
    up.add_argument("--push", metavar="REGISTRY", help="a registry that cluster pulls from")
    up.add_argument("--nodes", default="1", help="2 for a second node on this machine, in namespaces of its own")
    images = commands.add_parser("images", help="build the images")
    images.add_argument("--push", metavar="REGISTRY", help="publish them there and print the stack's images: block")
    for name, what in (
        ("demo", "run a batch of Monte Carlo jobs on the site"),
        ("status", "show the site on one screen"),
        ("env", "print the environment in which pulumi and kubectl work"),
        ("down", "take the site down and undo every change to this machine"),
    ):
        commands.add_parser(name, help=what)
    return top


def path(text: str) -> Path:
    """A path; `~` too, which not every shell has replaced in `make up KUBECONFIG=~/…`."""
    return Path(text).expanduser()


def check(options: Mapping[str, object]) -> None:
    """Refuses half a description of a cluster at once, not after minutes of building for the wrong one.

    Raises:
        Refusal: a word is missing, or of no use.
    """
    named, where, push, nodes = (options[name] for name in ("kubeconfig", "context", "push", "nodes"))
    if nodes not in NODES:
        raise Refusal(f"make up: NODES is {' or '.join(NODES)}, not {nodes}: how many nodes this machine is to be")
    if named is not None and nodes != NODES[0]:
        raise Refusal("make up: NODES is about nodes of this machine: leave it out, or leave KUBECONFIG out")
    if named is None and (where or push):
        given = "CONTEXT" if where else "PUSH"
        raise Refusal(f"make up: {given} is about an existing cluster: add KUBECONFIG=<its file>, or leave {given} out")
    if named is not None and not push:
        raise Refusal(
            "make up: an existing cluster takes no images from this machine: add PUSH=<a registry it pulls from>"
        )


def main(words: list[str]) -> int:
    """Runs one command; the exit code of the process."""
    options = vars(parser().parse_args(words))
    command = options.pop("command")
    try:
        if command == "up":
            check(options)
            options["nodes"] = int(options["nodes"])
        getattr(site, command)(**options)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    except OSError as error:  # above all: no space left, or a directory that is another user's
        print(f"error: {error.filename or command}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; `make {command}` goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
