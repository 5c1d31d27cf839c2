"""The client against a real HTTP server that misbehaves in the ways that API servers do."""

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from services import kube
from services.kube import (
    Access,
    AlreadyExistsError,
    Api,
    ApiError,
    ConflictError,
    DeniedError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnreachableError,
)
from services.vacuum.watch import Cache

pytestmark = pytest.mark.fast


@dataclass
class Answer:
    """One answer of the server; `hang` keeps the connection open after it until the test is over."""

    status: int = 200
    body: object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    lines: list[object] | None = None
    hang: bool = False


@dataclass
class Script:
    """A server on loopback that gives its answers in order, the last one for ever, and keeps what it was asked."""

    answers: list[Answer]
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0


Serve = Callable[..., Script]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[tuple[ThreadingHTTPServer, Script]] = []

    def start(*answers: Answer) -> Script:
        script = Script(list(answers))

        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                script.asked.append((self.command, self.path, json.loads(sent) if sent else None))
                answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                content = json.dumps(answer.body).encode()
                if answer.lines is not None:
                    content = b"".join(json.dumps(line).encode() + b"\n" for line in answer.lines)
                if answer.hang and answer.lines is None:
                    script.over.wait()
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
                if answer.hang:
                    script.over.wait()

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = reply  # noqa: N815  http.server's names

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        script.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append((server, script))
        return script

    yield start
    for server, script in running:
        script.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client meant to wait between attempts; it does not."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return waited


@asynccontextmanager
async def client(script: Script, **more: Any) -> AsyncIterator[Api]:
    access = Access(
        server=f"http://127.0.0.1:{script.port}",
        namespace="site",
        tls=ssl.create_default_context(),
        token=lambda: "secret",
    )
    api = Api(access, **more)
    try:
        yield api
    finally:
        await api.close()


def get(script: Script, **more: Any) -> Any:
    async def call() -> Any:
        async with client(script, **more) as api:
            return await api.get("/thing")

    return asyncio.run(call())


def test_retry_after_is_obeyed(serve: Serve, pauses: list[float]) -> None:
    script = serve(Answer(status=429, headers={"Retry-After": "7"}), Answer(body={"kind": "Thing"}))
    assert get(script) == {"kind": "Thing"}
    assert pauses == [7.0]


def test_a_server_that_stays_broken_is_given_up_after_some_attempts(serve: Serve, pauses: list[float]) -> None:
    script = serve(Answer(status=503))
    with pytest.raises(UnreachableError):
        get(script)
    assert len(script.asked) == kube.ATTEMPTS
    assert pauses == sorted(pauses)


def test_a_connection_that_hangs_is_given_up(serve: Serve, pauses: list[float]) -> None:
    with pytest.raises(UnreachableError, match="TimeoutError"):
        get(serve(Answer(hang=True)), call_seconds=0.1)
    assert len(pauses) == kube.ATTEMPTS - 1


def test_a_server_that_is_not_there_is_unreachable(serve: Serve, pauses: list[float]) -> None:
    script = serve(Answer())
    script.port = 1  # nothing listens on it
    with pytest.raises(UnreachableError, match="ClientConnectorError"):
        get(script)


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (400, "BadRequest", InvalidError),
        (403, "Forbidden", DeniedError),
        (404, "NotFound", NotFoundError),
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (410, "Expired", GoneError),
        (422, "Invalid", InvalidError),
    ],
)
def test_an_answer_that_time_will_not_change_is_not_asked_for_twice(
    serve: Serve, status: int, reason: str, error: type[ApiError]
) -> None:
    script = serve(Answer(status=status, body={"kind": "Status", "reason": reason, "message": "why"}))
    with pytest.raises(error, match="why") as caught:
        get(script)
    assert type(caught.value) is error
    assert len(script.asked) == 1


def test_a_page_of_html_is_an_error_like_any_other(serve: Serve, pauses: list[float]) -> None:
    with pytest.raises(UnreachableError, match="HTTP 502"):
        get(serve(Answer(status=502, body="<html>")))


def test_a_long_list_is_read_page_by_page(serve: Serve) -> None:
    script = serve(
        Answer(body={"items": [{"n": 1}], "metadata": {"resourceVersion": "5", "continue": "more"}}),
        Answer(body={"items": [{"n": 2}], "metadata": {"resourceVersion": "5"}}),
    )

    async def call() -> Any:
        async with client(script) as api:
            return await api.list("/things", lambda raw: raw["n"], selector="a=b")

    assert asyncio.run(call()) == ([1, 2], "5")
    assert "labelSelector=a%3Db" in script.asked[0][1]
    assert "continue=more" in script.asked[1][1]


def test_no_more_than_a_page_of_a_list_is_held(serve: Serve) -> None:
    script = serve(
        Answer(body={"items": [{"n": 1}, {"n": 2}], "metadata": {"resourceVersion": "5", "continue": "more"}}),
        Answer(body={"items": [{"n": 3}], "metadata": {"resourceVersion": "5"}}),
    )

    async def call() -> Any:
        async with client(script) as api:
            return await api.list("/things", lambda raw: (raw["n"], len(script.asked)))

    # Each was trimmed before the next page was asked for.
    assert asyncio.run(call()) == ([(1, 1), (2, 1), (3, 2)], "5")


def test_a_deletion_names_the_object_that_is_meant(serve: Serve) -> None:
    script = serve(Answer())

    async def call() -> None:
        async with client(script) as api:
            await api.delete("/thing", uid="u", grace_seconds=5)

    asyncio.run(call())
    ((verb, _, body),) = script.asked
    assert (verb, body["preconditions"], body["gracePeriodSeconds"]) == ("DELETE", {"uid": "u"}, 5)


def item(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listed(version: int, *names: str) -> Answer:
    return Answer(
        body={"items": [item(name, version) for name in names], "metadata": {"resourceVersion": str(version)}}
    )


def events(*happened: tuple[str, dict[str, Any]], hang: bool = False) -> Answer:
    return Answer(lines=[{"type": kind, "object": body} for kind, body in happened], hang=hang)


def followed(script: Script, until: Callable[["Cache[Any]"], bool], **more: Any) -> "Cache[Any]":
    """A cache that has followed the server until something is true of it."""

    async def follow() -> "Cache[Any]":
        changed = asyncio.Event()
        async with client(script, **more) as api:
            cache: Cache[Any] = Cache(api, "/things", lambda raw: raw, changed)
            task = asyncio.create_task(cache.run())
            async with asyncio.timeout(20):
                while not until(cache):
                    await changed.wait()
                    changed.clear()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return cache

    return asyncio.run(follow())


def test_a_cache_follows_a_watch_and_goes_on_where_it_ended(serve: Serve) -> None:
    script = serve(
        listed(5, "a", "b"),
        events(("ADDED", item("c", 6)), ("DELETED", item("a", 7)), ("BOOKMARK", item("", 9))),
        events(("ADDED", item("d", 10)), hang=True),
    )
    cache = followed(script, lambda cache: "d" in cache.objects)
    assert sorted(cache.objects) == ["b", "c", "d"]
    assert [("resourceVersion=5" in path, "resourceVersion=9" in path) for _, path, _ in script.asked[1:3]] == [
        (True, False),
        (False, True),
    ]


def test_the_largest_object_that_etcd_takes_comes_through_a_watch(serve: Serve) -> None:
    large = item("large", 6)
    large["metadata"]["annotations"] = {"all": "x" * 3 * 2**19}
    cache = followed(serve(listed(5), events(("ADDED", large), hang=True)), lambda cache: "large" in cache.objects)
    assert cache.objects["large"] == large


def test_a_redirect_is_not_followed_with_our_token(serve: Serve) -> None:
    script = serve(Answer(status=307, headers={"Location": "/elsewhere"}))
    with pytest.raises(ApiError, match="HTTP 307"):
        get(script)
    assert [path for _, path, _ in script.asked] == ["/thing"]


@pytest.mark.parametrize(
    "gone",
    [Answer(status=410, body={"reason": "Expired"}), events(("ERROR", {"code": 410, "reason": "Expired"}))],
    ids=["as an answer", "as an event"],
)
def test_a_version_that_is_forgotten_means_to_list_again(serve: Serve, gone: Answer) -> None:
    script = serve(listed(5, "a"), gone, listed(50, "z"), events(hang=True))
    assert sorted(followed(script, lambda cache: "z" in cache.objects).objects) == ["z"]


def test_a_watch_that_falls_silent_is_given_up_and_what_it_missed_is_read(serve: Serve, pauses: list[float]) -> None:
    script = serve(listed(5, "a"), events(("ADDED", item("b", 6)), hang=True), listed(9, "z"), events(hang=True))
    cache = followed(script, lambda cache: "z" in cache.objects, silence_seconds=0.2)
    assert sorted(cache.objects) == ["z"]


def test_a_cache_out_of_reach_is_not_fresh(serve: Serve, pauses: list[float]) -> None:
    script = serve(listed(5, "a"), Answer(status=503))
    cache = followed(script, lambda cache: bool(cache.objects) and not cache.fresh)
    assert cache.staleness == float("inf")
    assert sorted(cache.objects) == ["a"]


def test_an_old_event_does_not_undo_our_own_write() -> None:
    cache: Cache[Any] = Cache(
        Api(Access(server="http://x", namespace="n", tls=ssl.create_default_context())),
        "/x",
        lambda raw: raw,
        asyncio.Event(),
    )
    cache.put(item("a", 10))
    cache.put(item("a", 9))
    assert cache.objects["a"]["metadata"]["resourceVersion"] == "10"
