"""The command line of the local site: `python -m local COMMAND`; the Makefile has a target for each."""

import argparse
import sys
from pathlib import Path

from local import site
from local.refusal import Refusal

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring up the dev site")
    up.add_argument("--kubeconfig", type=Path, help="use the cluster of this file in place of a node on this machine")
    up.add_argument("--context", help="the context of that file; its current one by default")
    up.add_argument("--push", metavar="REGISTRY", help="a registry that cluster pulls from")
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


def main(words: list[str]) -> int:
    """Runs one command; the exit code of the process."""
    options = vars(parser().parse_args(words))
    command = options.pop("command")
    try:
        getattr(site, command)(**options)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; `make {command}` goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
