"""The page: a table of all sites, then each with its pictures. One file, without scripts or anything from elsewhere."""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import jinja2
from markupsafe import Markup

from report.books import HOUR, MICROS, Books
from report.plot import bars


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot and what it shows."""

    caption: str
    drawn: Markup


def page(stack: str, month: date, books: Mapping[str, Books], missing: Mapping[str, str]) -> str:
    """All of it, as HTML.

    Args:
        stack: that the sites are of.
        month: its first day.
        books: by site.
        missing: why there are no books of a site, by its name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("report", "."), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    days = [date(month.year, month.month, day + 1) for day in range(monthrange(month.year, month.month)[1])]
    return environment.get_template("page.html").render(
        stack=stack,
        month=f"{month:%B %Y}",
        books=books,
        missing=missing,
        pictures={name: _pictures(one, days) for name, one in books.items()},
        hour=HOUR,
    )


def _pictures(books: Books, days: list[date]) -> list[Picture]:
    pictures = []
    if books.wall:
        held = {what: {day: seconds / HOUR for day, seconds in one.items()} for what, one in books.held.items()}
        pictures.append(_picture("Core-hours by what became of startds", held, days, "core-hours"))
    for basis, currency in books.totals:
        charged = {
            pool: {day: micros / MICROS for day, micros in one.items()}
            for pool, one in books.charged(basis, currency).items()
        }
        pictures.append(_picture(f"Costs by pool ({basis})", charged, days, currency))
    return pictures


def _picture(caption: str, parts: Mapping[str, Mapping[date, float]], days: list[date], unit: str) -> Picture:
    drawn = Markup(bars(parts, days, unit))  # noqa: S704  matplotlib escapes the names that it draws
    return Picture(caption=caption, drawn=drawn)
