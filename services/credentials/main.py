"""The loop: look at the Secret and at what there is to fill it with, each minute; change it when it is time."""

import asyncio
import base64
import os
import random
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from services.credentials.inputs import Problem, Refused, read_authority, read_host, read_token, said
from services.credentials.metrics import Metrics
from services.credentials.secret import Plan, Sources, Terms, decide, good, held_of, patience
from services.credentials.voms import AUTHORITIES, SERVERS, Voms, read_trust
from services.events import announce
from services.health import serving
from services.kube import Access, Api, ApiError, ConflictError, DeniedError, Json, NotFoundError, in_cluster
from services.process import log, until_told

Source = TypeVar("Source")

# How soon a new certificate, token or authority is noticed; a failure is repeated sooner at first.
LOOK_SECONDS = 60.0
MANAGER = "credentials"
FIRST_PAUSE_SECONDS = 2.0
# What is in the way is said again so often, since an Event is forgotten after an hour.
REPEAT_SECONDS = 3600.0
# A turn is a few calls, each of which may wait for a server that is out of reach; longer, and the loop hangs.
STUCK_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An object in the cluster.

    Attributes:
        what: it holds, as the reasons of problems begin.
        kind: Secret or ConfigMap.
        namespace: it is in.
        name: of it.
        keys: that are read.
    """

    what: str
    kind: str
    namespace: str
    name: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/api/v1/namespaces/{self.namespace}/{self.kind.lower()}s/{self.name}"

    @property
    def remedy(self) -> str:
        """The command that makes it, in a sentence."""
        kind = "secret generic" if self.kind == "Secret" else "configmap"
        files = " ".join(f"--from-file={key}=…" for key in self.keys)
        return f"make it with `kubectl create {kind} {self.name} --namespace {self.namespace} {files}`"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the refresher is told.

    Attributes:
        secret: to fill.
        host: where the host certificate is.
        token: where the pool's token is, if the pool takes one.
        authority: where the pool's certificate authority is, if it is not one that everybody knows.
        voms: where it is said who grants VOMS attributes; None if none are wanted.
        organisation: whose attributes they are.
        attributes: that are wanted.
        terms: of proxies.
        port: to tell the health on.
    """

    secret: Reference
    host: Reference
    token: Reference | None
    authority: Reference | None
    voms: Reference | None
    organisation: str
    attributes: tuple[str, ...]
    terms: Terms
    port: int


def options(environment: Mapping[str, str]) -> Options:
    """What the environment says.

    Raises:
        ValueError: one sentence about a variable that cannot be used.
    """

    def reference(variable: str, what: str, kind: str, *keys: str) -> Reference | None:
        text = environment.get(variable, "")
        parts = re.fullmatch(r"([a-z0-9-]+)/([a-z0-9.-]+)", text)
        if parts is None and text:
            raise ValueError(f"{variable} is {text!r}; it must be a namespace and a name, as in default/atlas-cert")
        return Reference(what=what, kind=kind, namespace=parts[1], name=parts[2], keys=keys) if parts else None

    def number(variable: str, default: int) -> int:
        text = environment.get(variable, str(default))
        if not text.isdecimal() or int(text) == 0:
            raise ValueError(f"{variable} is {text!r}; it must be a positive whole number")
        return int(text)

    def hours(variable: str, default: timedelta) -> timedelta:
        return timedelta(hours=number(variable, default // timedelta(hours=1)))

    host = reference("HOST_CERTIFICATE", "Certificate", "Secret", "hostcert", "hostkey")
    namespace = environment.get("NAMESPACE")
    if host is None or not namespace:
        missing = "HOST_CERTIFICATE" if host is None else "NAMESPACE"
        raise ValueError(f"{missing} is not set; the Deployment of the refresher sets it")
    organisation, _, attributes = environment.get("VOMS", "").partition(":")
    voms = reference("VOMS_TRUST", "Voms", "ConfigMap", SERVERS, AUTHORITIES)
    if bool(attributes) != (voms is not None):
        raise ValueError("VOMS (as in atlas:/atlas/Role=production) and VOMS_TRUST are set together or not at all")
    return Options(
        secret=Reference(
            what="Proxy", kind="Secret", namespace=namespace, name=environment.get("SECRET", "proxy"), keys=("proxy",)
        ),
        host=host,
        token=reference("TOKEN", "Token", "Secret", "token"),
        authority=reference("AUTHORITY", "Authority", "ConfigMap", "ca.pem"),
        voms=voms,
        organisation=organisation,
        attributes=tuple(attributes.split(",")) if attributes else (),
        terms=Terms(
            life=hours("PROXY_HOURS", Terms.life),
            period=hours("REFRESH_HOURS", Terms.period),
            alarm=hours("ALARM_HOURS", Terms.alarm),
            critical=hours("CRITICAL_HOURS", Terms.critical),
        ),
        port=number("PORT", 8080),
    )


def pause_after(failures: int, chance: float) -> float:
    """Seconds until the next look: a minute, or less after the first failures in a row, doubling.

    Args:
        failures: in a row.
        chance: from 0 to 1, so that many who failed together do not come back together.
    """
    if failures == 0:
        return LOOK_SECONDS
    return min(LOOK_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10)) * (0.5 + chance / 2)


class Refresher:
    """Keeps one Secret filled.

    Nothing is remembered but for comfort: all that decides is in the cluster. Any number of refreshers may run, since
    each write is for the version of the Secret that it was decided on.
    """

    def __init__(self, api: Api, wanted: Options, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._options = wanted
        self._clock = clock
        self._starting = True
        self._failures = 0
        self._good_until: datetime | None = None
        self._told: dict[Problem, datetime] = {}
        self._turned = time.monotonic()
        self.metrics = Metrics(clock, wanted.terms)

    @property
    def ready(self) -> bool:
        """Whether the Secret holds a good proxy, as far as we know."""
        return self._good_until is not None and self._clock() < self._good_until

    @property
    def turning(self) -> bool:
        """Whether the loop makes progress."""
        return time.monotonic() - self._turned < STUCK_SECONDS

    async def run(self) -> None:
        """Turns for ever."""
        while True:
            pause = await self.turn()
            self._turned = time.monotonic()
            await asyncio.sleep(pause)

    async def turn(self) -> float:
        """Looks, and changes what is to be changed; the seconds until the next look."""
        secret: Json | None = None
        try:
            secret = await self._secret()
            plan = await self._plan(secret)
            secret = await self._carry_out(plan, secret)
        except ConflictError:  # somebody was faster; the next look shows what he did
            self._count("conflict")
            self._failures += 1
        except ApiError as error:
            if isinstance(error, NotFoundError):
                self._good_until = None
            self._count("failed")
            self._failures += 1
            await self._tell(secret, (_refusal(self._options.secret, error),))
        else:
            self._starting = False
            self._failures = self._failures + 1 if plan.failed else 0
            await self._tell(secret, plan.problems)
        return pause_after(self._failures, random.random())  # noqa: S311  spreads clients, guards nothing

    async def _secret(self) -> Json:
        """The Secret; if there is none, an empty one is made, as two who do so at once may."""
        wanted = self._options.secret
        try:
            return await self._api.get(wanted.path)
        except NotFoundError:
            self._good_until = None
            empty = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": wanted.name}, "type": "Opaque"}
            return await self._api.apply(wanted.path, empty, manager=MANAGER)

    async def _plan(self, secret: Json) -> Plan:
        now, held = self._clock(), held_of(secret)
        kept = good(held, now)
        self._good_until = kept.expires if kept else None
        self.metrics.ends = {"proxy": kept.expires} if kept else {}
        self.metrics.renewed = held.renewed
        terms = self._options.terms
        most = patience(held, terms.period, starting=self._starting)
        # A VOMS server may take its time; the health is told meanwhile.
        return await asyncio.to_thread(decide, held, await self._sources(now), now, terms=terms, most=most)

    async def _carry_out(self, plan: Plan, secret: Json) -> Json:
        """The Secret as it then is."""
        if plan.patch is not None:
            secret = await self._api.patch(self._options.secret.path, plan.patch)
            log(
                event="written", keys=sorted(plan.patch["data"]), ends={key: str(end) for key, end in plan.ends.items()}
            )
        if plan.renewed and plan.proxy is not None:
            await self._announce(
                secret, "Renewed", f"proxy: a new one, good to {said(plan.proxy.expires)}", warning=False
            )
        if plan.renewed or plan.failed:
            self._count("renewed" if plan.renewed else "failed")
        self._good_until = plan.proxy.expires if plan.proxy else None
        self.metrics.ends = plan.ends
        self.metrics.renewed = held_of(secret).renewed
        return secret

    async def _sources(self, now: datetime) -> Sources:
        wanted = self._options
        return Sources(
            host=await self._read(wanted.host, lambda data: read_host(data["hostcert"], data["hostkey"], now)),
            token=await self._read(wanted.token, lambda data: read_token(data["token"], now)) if wanted.token else None,
            authority=await self._read(wanted.authority, lambda data: read_authority(data["ca.pem"], now))
            if wanted.authority
            else None,
            voms=await self._read(wanted.voms, self._trust) if wanted.voms else None,
        )

    def _trust(self, data: Mapping[str, bytes]) -> Voms:
        return read_trust(data, self._options.organisation, self._options.attributes)

    async def _read(self, reference: Reference, check: Callable[[Mapping[str, bytes]], Source]) -> Source | Problem:
        """What an object gives, or what is wrong with it."""
        try:
            return check(_data(await self._api.get(reference.path), reference))
        except NotFoundError:
            reason, sentence = f"{reference.what}Missing", f"it is missing; {reference.remedy}"
        except DeniedError:
            reason = f"{reference.what}Denied"
            sentence = "the refresher may not read it; `pulumi up` gives it the right"
        except Refused as refused:
            reason, sentence = refused.problem.reason, refused.problem.sentence
        return Problem(reason=reason, sentence=f"{reference}: {sentence}")

    async def _tell(self, secret: Json | None, problems: Sequence[Problem]) -> None:
        """Logs what is in the way and writes an Event about it, once in a while."""
        now = self._clock()
        self.metrics.problems = problems
        self._told = {
            problem: told
            for problem, told in self._told.items()
            if problem in problems and now - told < timedelta(seconds=REPEAT_SECONDS)
        }
        for problem in problems:
            if problem not in self._told:
                self._told[problem] = now
                log(event="problem", reason=problem.reason, message=problem.sentence)
                await self._announce(secret, problem.reason, problem.sentence, warning=True)

    async def _announce(self, secret: Json | None, reason: str, message: str, *, warning: bool) -> None:
        if secret is not None:
            now = self._clock().timestamp()
            await announce(
                self._api,
                secret,
                component="credentials",
                reason=reason,
                message=message,
                warning=warning,
                now=now,
                once=warning,
            )

    def _count(self, result: str) -> None:
        self.metrics.refreshes.labels(result).inc()


def _data(found: Json, reference: Reference) -> dict[str, bytes]:
    """The data of a Secret or of a ConfigMap.

    Raises:
        Refused: a key is missing.
    """
    data = found.get("data") or {}
    for key in reference.keys:
        if key not in data:
            raise Refused(f"{reference.what}Missing", f"the key {key} is missing; {reference.remedy}")
    if reference.kind == "Secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    return {key: value.encode() for key, value in data.items()}


def _refusal(secret: Reference, error: ApiError) -> Problem:
    match error:
        case NotFoundError():
            return Problem(reason="SecretMissing", sentence=f"{secret}: its namespace is missing; `pulumi up` makes it")
        case DeniedError():
            said = "the refresher may not change it; `pulumi up` gives it the right"
            return Problem(reason="SecretDenied", sentence=f"{secret}: {said}")
    said = f"the API server does not answer, or says no ({error.reason or error.status}); it is asked again"
    return Problem(reason="ApiFailed", sentence=f"{secret}: {said}")


async def _serve(access: Access, wanted: Options) -> None:
    """Runs until it is told to stop; what it has written stays."""
    api = Api(access, observe=lambda verb, code: refresher.metrics.requests.labels(verb, code).inc())
    refresher = Refresher(api, wanted)
    registry = refresher.metrics.registry
    try:
        async with serving(wanted.port, registry, healthy=lambda: refresher.turning, ready=lambda: refresher.ready):
            await until_told(refresher.run())
    finally:
        await api.close()


def main() -> None:
    """Refreshes as the environment says, which the Deployment sets."""
    try:
        wanted = options(os.environ)
    except ValueError as error:
        sys.exit(f"credentials: {error}")
    asyncio.run(_serve(in_cluster(), wanted))
