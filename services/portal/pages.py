"""The pages, for people: read-only, made on the server, for whom the cluster lets through to this pod's loopback."""

import html
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import jinja2
from aiohttp import web

from services.portal import views, words
from services.portal.store import Heard
from services.times import timestamp

HERE = Path(__file__).parent
# What a script of ours sends for the part of a page that changes.
LIVE = "X-Live"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Whoever forwards the port asks for this machine; another name is a page elsewhere that had its own name point here.
HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pages:
    """All pages.

    Args:
        sites: names of all of the stack.
        known: what they said last.
        clock: POSIX seconds.
    """

    def __init__(
        self, sites: Sequence[str], known: Mapping[str, Heard], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._sites = sites
        self._known = known
        self._clock = clock
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "number": words.number,
            "duration": words.duration,
            "moment": words.moment,
            "timestamp": timestamp,
            "percent": words.percent,
            "spaced": words.spaced,
            "tone": views.tone_of,
        }
        self._templates.globals |= {"money": words.money}

    def application(self) -> web.Application:
        """Serves them."""
        made = web.Application(middlewares=[self._guard])
        made.router.add_get("/", self._overview)
        made.router.add_get("/sites/{site}", self._site)
        made.router.add_get("/sites/{site}/sets/{set}", self._set)
        made.router.add_static("/static", HERE / "static")
        return made

    async def _overview(self, request: web.Request) -> web.Response:
        sheet, totals = views.sites(self._sites, self._known, request.query, self._clock())
        return self._page(request, "overview.html", sheet=sheet, totals=totals)

    async def _site(self, request: web.Request) -> web.Response:
        name, heard = self._heard(request)
        row = views.site_row(name, heard, self._clock())
        return self._page(request, "site.html", row=row, report=heard.report if heard else None, doing=views.doing)

    async def _set(self, request: web.Request) -> web.Response:
        name, heard = self._heard(request)
        wanted = request.match_info["set"]
        report = heard.report if heard else None
        found = next((each for each in (report.sets or () if report else ()) if each.name == wanted), None)
        if report is None or found is None:
            raise web.HTTPNotFound(text=f"Site {name} told of no set {wanted}.")
        return self._page(
            request,
            "set.html",
            row=views.site_row(name, heard, self._clock()),
            set=found,
            bounds=views.bounds(found),
            doing=views.doing(report, wanted),
            words=views.DOING,
            sheet=views.startds(report, wanted, request.query),
        )

    def _heard(self, request: web.Request) -> tuple[str, Heard | None]:
        name = request.match_info["site"]
        if name not in self._sites:
            raise web.HTTPNotFound(text=f"There is no site {name} in this stack.")
        return name, self._known.get(name)

    def _page(self, request: web.Request, name: str, **content: object) -> web.Response:
        template = self._templates.get_template(name)

        def link(**changes: object) -> str:
            query = {**request.query, **changes}
            kept = urlencode({key: value for key, value in query.items() if value not in (None, "")})
            return f"{request.path}?{kept}" if kept else request.path

        content |= {"now": self._clock(), "query": request.query, "link": link, "path": request.path}
        if LIVE in request.headers:
            text = "".join(template.blocks["live"](template.new_context(content)))
        else:
            text = template.render(content)
        response = web.Response(text=text, content_type="text/html")
        response.enable_compression()
        return response

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdecimal() else request.host
        if host not in HOSTS:
            response: web.StreamResponse = self._refused(
                request, HTTPStatus.MISDIRECTED_REQUEST, "Forward the port, and ask for localhost."
            )
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                plain = error.text if error.status == HTTPStatus.NOT_FOUND and error.text else ""
                sentence = plain if " " in plain and ":" not in plain[:4] else "There is no such page."
                response = self._refused(request, HTTPStatus(error.status), sentence)
        response.headers.update(HEADERS)
        return response

    def _refused(self, request: web.Request, status: HTTPStatus, sentence: str) -> web.Response:
        if LIVE in request.headers:
            return web.Response(status=status, text=f"<p>{html.escape(sentence)}</p>", content_type="text/html")
        text = self._templates.get_template("refused.html").render(title=status.phrase, sentence=sentence)
        return web.Response(status=status, text=text, content_type="text/html")
