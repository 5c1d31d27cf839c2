"""How fast the ledger takes a bill in, and in how much memory: `.venv/bin/python -m benchmarks.ledger`.

A million rows (5 sites, 2 bases, 250 days, 400 meters) page by page into an empty ledger, then all of them once more,
corrected; the memory after each tenth, so that growth with the number of rows would show. Prints a table, writes JSON.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from services.accounting.ledger import Ledger
from services.accounting.money import micros
from services.accounting.projection import project
from services.accounting.rows import Basis, Reading, Row

SITES, BASES, DAYS, METERS, PAGE = 5, (Basis.ACTUAL, Basis.AMORTISED), 250, 400, 1000
FIRST = date(2026, 1, 1)


def pages(seed: int) -> Iterator[list[Row]]:
    """One site's bill of one basis, amounts as texts that are read anew."""
    chance = random.Random(seed)  # noqa: S311  amounts of a benchmark
    page: list[Row] = []
    for day, meter in product(range(DAYS), range(METERS)):
        amount = f"{chance.uniform(-1, 100):.9f}"
        pool = f"jobs-{meter % 4}"
        page.append(
            Row(
                day=FIRST + timedelta(days=day),
                meter=f"{pool}: Standard_D16ds_v5 hours {meter:04d}",
                currency="EUR",
                micros=micros(amount),
                pool=pool,
                service="Virtual Machines",
            )
        )
        if len(page) == PAGE:
            yield page
            page = []


def resident_mib() -> float:
    """Memory in use now."""
    pages_used = int(Path("/proc/self/statm").read_text().split()[1])
    return pages_used * resource.getpagesize() / 2**20


class Nowhere:
    """A database that takes everything at once: what is measured is the ledger's part."""

    target = "nowhere"

    def lost(self, site: str) -> bool:  # noqa: ARG002
        """It says nothing of what it holds."""
        return False

    def write(self, lines: Sequence[str]) -> None:
        """Does nothing."""


def run(path: Path) -> list[dict[str, float | int | str]]:
    """What each pass over the million took."""
    results: list[dict[str, float | int | str]] = []
    with Ledger(path) as ledger:
        for as_of, what in ((1, "new"), (2, "corrected")):
            began, held, rows = time.monotonic(), [], 0
            for site, basis in product(range(SITES), BASES):
                rows += ledger.take(
                    Reading(
                        source="azure",
                        site=f"site-{site}",
                        basis=basis,
                        first=FIRST,
                        last=FIRST + timedelta(days=DAYS - 1),
                        as_of=as_of,
                        pages=pages(1000 * as_of + 10 * site + BASES.index(basis)),
                    )
                ).rows
                held.append(resident_mib())
            results.append(
                {
                    "what": what,
                    "rows": rows,
                    "seconds": round(time.monotonic() - began, 1),
                    "mib_after_a_tenth": round(held[0], 1),
                    "mib_at_the_end": round(held[-1], 1),
                    "file_mib": round(path.stat().st_size / 2**20, 1),
                }
            )
        began = time.monotonic()
        by_pool, total = ledger.sums("site", "day", "pool"), ledger.sums()
        assert sum(by_pool.values()) == sum(total.values())
        results.append({"what": "sums by site, day and pool", "seconds": round(time.monotonic() - began, 1)})
        began = time.monotonic()
        number = sum(project(ledger, f"site-{site}", "", Nowhere()) for site in range(SITES))
        results.append({"what": f"{number} points of time series", "seconds": round(time.monotonic() - began, 1)})
    return results


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("ledger.json"), help="where the figures go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results = run(Path(directory) / "ledger.db")
    columns = ("what", "rows", "seconds", "mib_after_a_tenth", "mib_at_the_end", "file_mib")
    sys.stdout.write(" | ".join(columns) + "\n")
    for result in results:
        sys.stdout.write(" | ".join(str(result.get(column, "")) for column in columns) + "\n")
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
