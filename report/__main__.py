"""`python -m report STACK`: writes the page."""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from report.ask import AskError, books, sites
from report.books import Books
from report.page import page


def month(text: str) -> date:
    """Its first day."""
    parts = re.fullmatch(r"(20[0-9]{2})-(0[1-9]|1[0-2])", text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no month; one as in 2026-11 is needed")
    return date(int(parts[1]), int(parts[2]), 1)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; 1 if a site's books are missing, for which the page is written all the same."""
    parser = argparse.ArgumentParser(prog="report", description="A month of a stack's sites as one HTML page.")
    parser.add_argument("stack")
    parser.add_argument("--month", type=month, default=f"{datetime.now(UTC):%Y-%m}", help="as in 2026-11; this one")
    parser.add_argument("--output", type=Path, help="the file; report-STACK-MONTH.html by default")
    told = parser.parse_args(words)
    place: Path = told.output or Path(f"report-{told.stack}-{told.month:%Y-%m}.html")
    found: dict[str, Books] = {}
    missing: dict[str, str] = {}
    try:
        for name, site in sites(told.stack).items():
            try:
                found[name] = books(name, site, told.month)
            except AskError as error:
                missing[name] = str(error)
                print(f"error: site {name}: {error}", file=sys.stderr)
        place.write_text(page(told.stack, told.month, found, missing))
    except AskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {place}: {error.strerror}; name another file with --output", file=sys.stderr)
        return 1
    print(place)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
