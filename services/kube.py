"""A small client of the Kubernetes API: raw JSON over HTTP, a time limit on every call, errors one can tell apart."""

import asyncio
import base64
import gc
import json
import os
import random
import ssl
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from services.rate import Limiter, Rate

Json = dict[str, Any]
Kept = TypeVar("Kept")

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PAGE = 500
# A line of a watch holds one object, and etcd takes none above 1.5 MiB; aiohttp refuses lines of twice the buffer.
LINE_BYTES = 2**21

SUCCESS = range(200, 300)
# Of a call: it could not be sent, or no whole answer came, or not in time.
NO_ANSWER = (aiohttp.ClientError, TimeoutError)

CALL_SECONDS = 15.0
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
# The API server sends a bookmark about once a minute; half as long again without a line and the connection is dead.
SILENCE_SECONDS = 90.0
WATCH_SECONDS = 300


class ApiError(Exception):
    """The API server said no, or nothing.

    Attributes:
        status: of HTTP; 0 if there was no answer.
        reason: the word that Kubernetes gives it, as in AlreadyExists.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{reason or status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class UnreachableError(ApiError):
    """No answer, or none but errors of the server's own, after all attempts."""


class NotFoundError(ApiError):
    """There is no such object."""


class ConflictError(ApiError):
    """The object changed since it was read, or is another one than was meant."""


class AlreadyExistsError(ConflictError):
    """There is an object of that name."""


class GoneError(ApiError):
    """The resource version is too old: list again."""


class DeniedError(ApiError):
    """Quota, admission or permissions refuse it; the same request will be refused again for a while."""


class InvalidError(ApiError):
    """The object is wrong as it stands."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidError,
    401: DeniedError,
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: UnreachableError,
}


def error_of(status: int, body: Json) -> ApiError:
    """The error that a Status object, or a bare HTTP status, stands for."""
    reason, message = str(body.get("reason", "")), str(body.get("message", f"HTTP {status}"))
    if reason == "AlreadyExists":
        return AlreadyExistsError(status, reason, message)
    fallback = UnreachableError if status >= 500 else ApiError
    return _BY_STATUS.get(status, fallback)(status, reason, message)


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where the API server is and what proves who we are.

    Attributes:
        server: URL.
        namespace: the one to work in unless told otherwise.
        tls: trust, and the client certificate if there is one.
        token: reads the bearer token; asked at each call, since mounted tokens are renewed within the hour.
    """

    server: str
    namespace: str
    tls: ssl.SSLContext
    token: Callable[[], str] | None = None

    def in_namespace(self, namespace: str) -> "Access":
        """The same access, to work elsewhere."""
        return replace(self, namespace=namespace)


def in_cluster(directory: Path = SERVICE_ACCOUNT) -> Access:
    """The access of a pod by its service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=(directory / "namespace").read_text().strip(),
        tls=ssl.create_default_context(cafile=str(directory / "ca.crt")),
        token=lambda: (directory / "token").read_text().strip(),
    )


def from_kubeconfig(path: Path) -> Access:
    """The access that the current context of a kubeconfig file gives, by certificate or token."""
    import yaml  # noqa: PLC0415  only outside a cluster are there kubeconfig files, and PyYAML

    content = yaml.safe_load(path.read_text())

    def named(kind: str, name: str) -> Json:
        return next(entry[kind] for entry in content[f"{kind}s"] if entry["name"] == name)

    context = named("context", content["current-context"])
    cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
    tls = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
    if data := cluster.get("certificate-authority-data"):
        tls.load_verify_locations(cadata=base64.b64decode(data).decode())
    if data := user.get("client-certificate-data"):
        with tempfile.NamedTemporaryFile() as pair:  # ssl reads certificate and key from a file only; it is private
            pair.write(base64.b64decode(data) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            tls.load_cert_chain(pair.name)
    elif "client-certificate" in user:
        tls.load_cert_chain(user["client-certificate"], user["client-key"])
    token = user.get("token")
    return Access(
        server=cluster["server"],
        namespace=context.get("namespace", "default"),
        tls=tls,
        token=(lambda: str(token)) if token else None,
    )


class Api:
    """Calls to one API server.

    Every call ends: by an answer, or by an `ApiError` after a bounded number of attempts. Only answers that mean "not
    now" (429 and 5xx) and silence are tried again, Retry-After obeyed. A create may therefore have been carried out
    although it is reported as `AlreadyExistsError`, a write with a resourceVersion although as `ConflictError`.

    With a `rate`, writes wait for their turn, and all of them for as long as an overloaded server asks for.
    """

    def __init__(
        self,
        access: Access,
        *,
        call_seconds: float = CALL_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        rate: Rate | None = None,
        observe: Callable[[str, str], None] = lambda _verb, _code: None,
    ) -> None:
        self.namespace = access.namespace
        self._access = access
        self._url = access.server.rstrip("/")
        self._patience = aiohttp.ClientTimeout(total=call_seconds)
        self._silence = aiohttp.ClientTimeout(total=None, sock_connect=call_seconds, sock_read=silence_seconds)
        self._observe = observe
        self._limiter = Limiter(rate) if rate else None
        self._client: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes all connections."""
        if self._client:
            await self._client.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        """Made at the first call: aiohttp wants the loop to run by then."""
        if self._client is None:
            # Not from the environment (trust_env): a proxy meant for payloads must never carry our token.
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._access.tls), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._client

    def _headers(self, **more: str) -> dict[str, str]:
        token = self._access.token
        return more | ({"Authorization": f"Bearer {token()}"} if token else {})

    async def get(self, path: str) -> Json:
        """One object."""
        return await self._call("GET", path)

    async def list(self, path: str, keep: Callable[[Json], Kept], *, selector: str = "") -> tuple[list[Kept], str]:
        """What is to be kept of all objects of a kind, and the resource version to watch from.

        Ten thousand pods as they come take more memory than all else together; so no more than a page is held of them.
        """
        items: list[Kept] = []
        onward = ""
        while True:
            content = await self._send(
                "GET", path, params={"limit": str(PAGE), "labelSelector": selector, "continue": onward}
            )
            kept, meta = _page(content, keep)
            items += kept
            onward = meta.get("continue", "")
            if not onward:
                return items, meta["resourceVersion"]

    async def create(self, path: str, body: Json) -> Json:
        """The object as the server made it."""
        return await self._call("POST", path, body=body)

    async def update(self, path: str, body: Json) -> Json:
        """Replaces an object; with metadata.resourceVersion only if nobody changed it since."""
        return await self._call("PUT", path, body=body)

    async def patch(self, path: str, body: Json, *, strategic: bool = False) -> Json:
        """Merges into an object; metadata.uid and metadata.resourceVersion in the body must match.

        Lists replace lists, but with `strategic` those of built-in kinds that have keys are merged by them.
        """
        return await self._call("PATCH", path, body=body, content_type=STRATEGIC_PATCH if strategic else MERGE_PATCH)

    async def apply(self, path: str, body: Json, *, manager: str) -> Json:
        """Makes an object unless it is there, in either case with what the body says, and no less than it has.

        Needs the right to create just that name, which no other way of making an object is content with.
        """
        return await self._call("PATCH", path, params={"fieldManager": manager}, body=body, content_type=APPLY_PATCH)

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> Json:
        """Deletes an object if it still is the one with that UID."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        return await self._call("DELETE", path, body=options)

    async def watch(self, path: str, version: str, *, selector: str = "") -> AsyncGenerator[tuple[str, Json], None]:
        """Changes after a resource version: (ADDED | MODIFIED | DELETED | BOOKMARK, object), until the server ends it.

        Raises:
            GoneError: that version is forgotten.
            UnreachableError: the connection broke or fell silent.
        """
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            "resourceVersion": version,
            "labelSelector": selector,
        }
        try:
            async with self._session.get(
                f"{self._url}{path}",
                params=params,
                headers=self._headers(),
                timeout=self._silence,
                allow_redirects=False,
                read_bufsize=LINE_BYTES,
            ) as response:
                self._observe("WATCH", str(response.status))
                if response.status != HTTPStatus.OK:
                    raise error_of(response.status, _json(await response.read()))
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise error_of(event["object"].get("code", 500), event["object"])
                    yield event["type"], event["object"]
        except (*NO_ANSWER, json.JSONDecodeError) as error:
            raise UnreachableError(0, type(error).__name__, str(error) or path) from error

    async def _call(
        self,
        verb: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        return _json(await self._send(verb, path, params=params, body=body, content_type=content_type))

    async def _send(
        self,
        verb: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311  spreads clients, guards nothing
            if self._limiter and verb != "GET":
                await self._limiter.wait()
            try:
                async with self._session.request(
                    verb,
                    f"{self._url}{path}",
                    params={key: value for key, value in (params or {}).items() if value},
                    data=None if body is None else json.dumps(body).encode(),
                    headers=self._headers(**{"Content-Type": content_type}),
                    timeout=self._patience,
                    allow_redirects=False,
                ) as response:
                    content = await response.read()
            except NO_ANSWER as error:
                self._observe(verb, type(error).__name__)
                failure: ApiError = UnreachableError(0, type(error).__name__, str(error) or path)
            else:
                self._observe(verb, str(response.status))
                if response.status in SUCCESS:
                    return content
                failure = error_of(response.status, _json(content))
                pause = _retry_after(response.headers.get("Retry-After")) or pause
                if self._limiter and response.status == HTTPStatus.TOO_MANY_REQUESTS:
                    self._limiter.pause(pause)
            if not isinstance(failure, UnreachableError) or attempt == ATTEMPTS:
                raise failure
            await asyncio.sleep(pause)


def _page(content: bytes, keep: Callable[[Json], Kept]) -> tuple[list[Kept], Json]:
    """What is to be kept of a page, and what it says of the list.

    A page of pods is a quarter of a million small objects, none of them in a cycle and all gone with it. Python's
    collector would go through them, and through all that is kept, several times a page: half of the time of a list.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        page = _json(content)
        return [keep(raw) for raw in page["items"]], page["metadata"]
    finally:
        if collecting:
            gc.enable()


def _json(content: bytes) -> Json:
    """An object, whatever came: a proxy in between may answer with a page."""
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _retry_after(header: str | None) -> float:
    return min(LONGEST_PAUSE_SECONDS, float(header)) if header and header.isdecimal() else 0.0
