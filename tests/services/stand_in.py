"""A stand-in for an API server and a kubelet, in memory, for tests of the services; not the real thing.

Honest about what their safety rests on: resource versions, UIDs, names, finalizers, deletion in two steps.
It knows no schema, no admission, no watch.
"""

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.kube import APPLY_PATCH, Api, Json, error_of
from services.times import timestamp
from services.vacuum.model import GROUP
from services.vacuum.objects import pods_path, sets_path

NAMESPACE = "site"


class Crash(BaseException):
    """The service is killed: nothing of its code may run on."""


@dataclass
class Server:
    """The objects, and the clock they are stamped with."""

    now: float = 1_000_000.0
    objects: dict[str, Json] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def put(self, path: str, body: Json) -> Json:
        """An object under a new resource version."""
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[path] = body
        return body

    def every(self, collection: str) -> list[Json]:
        """The objects of a collection."""
        return [body for path, body in self.objects.items() if path.rpartition("/")[0] == collection]

    def create(self, collection: str, body: Json) -> Json:
        """A new object; the name must be free."""
        meta = body["metadata"]
        name = meta.get("name") or f"{meta['generateName']}{next(self._versions)}"
        if f"{collection}/{name}" in self.objects:
            raise error_of(409, {"reason": "AlreadyExists", "message": name})
        meta |= {"name": name, "uid": f"uid-{next(self._versions)}", "creationTimestamp": timestamp(self.now)}
        return self.put(f"{collection}/{name}", {"generation": 1, **body, "metadata": {"generation": 1, **meta}})

    def find(self, path: str, expected: Mapping[str, Any]) -> Json:
        """An object, if it is the one that is meant."""
        if path not in self.objects:
            raise error_of(404, {"reason": "NotFound", "message": path})
        found = self.objects[path]
        for key in ("uid", "resourceVersion"):
            if key in expected and expected[key] != found["metadata"][key]:
                raise error_of(409, {"reason": "Conflict", "message": f"{path}: {key}"})
        return found

    def replace_status(self, path: str, body: Json) -> Json:
        """Writes a status; one that is the same as before makes no new version."""
        found = self.find(path, body["metadata"])
        if found.get("status") == body["status"]:
            return found
        return self.put(path, {**found, "status": copy.deepcopy(body["status"])})

    def merge(self, path: str, body: Json) -> Json:
        """A merge patch of metadata and data."""
        found = copy.deepcopy(self.find(path, body["metadata"]))
        meta = found["metadata"]
        if "finalizers" in body["metadata"]:
            added = set(body["metadata"]["finalizers"]) - set(meta.get("finalizers", ()))
            if added and "deletionTimestamp" in meta:
                raise error_of(422, {"reason": "Invalid", "message": "no new finalizers on what is being deleted"})
            meta["finalizers"] = body["metadata"]["finalizers"]
        for key, value in body["metadata"].get("annotations", {}).items():
            meta.setdefault("annotations", {})[key] = value
            if value is None:
                del meta["annotations"][key]
        for key, value in body.get("data", {}).items():
            found.setdefault("data", {})[key] = value
            if value is None:
                del found["data"][key]
        return self._sweep(path, self.put(path, found))

    def apply(self, path: str, body: Json) -> Json:
        """Makes an object unless it is there; fields that the body leaves out stay."""
        if path in self.objects:
            return self.objects[path]
        body["metadata"]["namespace"] = path.split("/")[4]
        return self.create(path.rpartition("/")[0], body)

    def delete(self, path: str, options: Json) -> Json:
        """Marks an object as deleted; it goes when nothing holds it."""
        found = copy.deepcopy(self.find(path, options.get("preconditions", {})))
        if "deletionTimestamp" not in found["metadata"]:
            grace = options.get("gracePeriodSeconds", 30) if "nodeName" in found["spec"] else 0
            found["metadata"]["deletionTimestamp"] = timestamp(self.now + grace)
            found["metadata"]["generation"] += 1
            self.put(path, found)
        return self._sweep(path, found)

    def set_pod_status(self, path: str, status: Json) -> None:
        """What a kubelet does."""
        self._sweep(path, self.put(path, {**self.objects[path], "status": status}))

    def _sweep(self, path: str, body: Json) -> Json:
        runs = "nodeName" in body.get("spec", {}) and body.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
        if "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers") and not runs:
            del self.objects[path]
        return body


class StandInApi(Api):
    """The client's own code down to the call, and then the stand-in instead of a network.

    Attributes:
        cut: asked with the number of each write, before and after it; raises to kill the service there.
    """

    def __init__(self, server: Server, cut: Callable[[int, str], None] = lambda _number, _when: None) -> None:
        self.namespace = NAMESPACE
        self._server = server
        self._cut = cut
        self._writes = itertools.count()

    async def _send(
        self,
        verb: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        if verb == "GET":
            return json.dumps(self._read(path)).encode()
        number = next(self._writes)
        self._cut(number, "before")
        verb = "APPLY" if content_type == APPLY_PATCH else verb
        self._server.calls.append((verb, path))
        answer = json.dumps(self._write(verb, path, copy.deepcopy(body or {}))).encode()
        self._cut(number, "after")
        return answer

    def _read(self, path: str) -> Json:
        if "/" in path.partition("/namespaces/")[2].partition("/")[2]:  # <namespace>/<kind>/<name>
            return self._server.find(path, {})
        return {"items": self._server.every(path), "metadata": {"resourceVersion": "0"}}

    def _write(self, verb: str, path: str, body: Json) -> Json:
        match verb:
            case "POST":
                return self._server.create(path, body)
            case "PUT" if path.endswith("/status"):
                return self._server.replace_status(path.removesuffix("/status"), body)
            case "PUT":
                return self._server.put(path, {**self._server.find(path, body["metadata"]), "spec": body["spec"]})
            case "APPLY":
                return self._server.apply(path, body)
            case "PATCH":
                return self._server.merge(path, body)
            case _:
                return self._server.delete(path, body)


@dataclass(frozen=True, kw_only=True)
class Life:
    """What a startd does with its life: after `seconds` it ends with this code. None: it stays."""

    code: int
    seconds: float | None


@dataclass
class Node:
    """A kubelet with room for everything: starts pods at once and lets them live the lives they are given.

    Attributes:
        away: UIDs of pods whose kubelet does not answer.
    """

    server: Server
    life: Callable[[int], Life]
    ends: dict[str, float] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)

    def step(self) -> None:
        """Brings all pods to what they are now."""
        for path, pod in list(self.server.objects.items()):
            if path.startswith(f"{pods_path(NAMESPACE)}/") and pod["metadata"]["uid"] not in self.away:
                self._step(path, pod)

    def _step(self, path: str, pod: Json) -> None:
        phase, now, uid = pod.get("status", {}).get("phase"), self.server.now, pod["metadata"]["uid"]
        if phase is None and "deletionTimestamp" not in pod["metadata"]:
            life = self.life(int(pod["metadata"]["name"].rpartition("-")[2]))
            self.ends[uid] = now + life.seconds if life.seconds is not None else float("inf")
            self.codes[uid] = life.code
            works = 200 <= life.code < 300  # it has a payload at once
            pod["spec"]["nodeName"] = "node"
            since = {"status": "True", "lastTransitionTime": timestamp(now)}
            self.server.set_pod_status(
                path,
                {
                    "phase": "Running",
                    "conditions": [{"type": kind, **since} for kind in ("PodScheduled", *(["Ready"] if works else []))],
                    "containerStatuses": [{"name": "startd", "state": {"running": {"startedAt": timestamp(now)}}}],
                },
            )
        elif phase == "Running" and (now >= self.ends[uid] or "deletionTimestamp" in pod["metadata"]):
            state = pod["status"]["containerStatuses"][0]["state"]
            code = self.codes[uid] if now >= self.ends[uid] else 100
            end = {
                "startedAt": state["running"]["startedAt"],
                "finishedAt": timestamp(now),
                "exitCode": 0,
                "message": f"{code} said\n",
            }
            status = {"phase": "Succeeded", "containerStatuses": [{"name": "startd", "state": {"terminated": end}}]}
            self.server.set_pod_status(path, status)


def startdset(server: Server, **spec: Any) -> str:
    """Makes a StartdSet with a pod limit of 12; the path of it."""
    whole = {
        "limits": {"pods": 12},
        "window": {"initial": 4, "growth": 4},
        "share": {"weight": 1, "floor": 0},
        "backoff": {"baseSeconds": 600, "capSeconds": 3600},
        "fizzleSeconds": 900,
        "startSeconds": 900,
        "drain": {"seconds": 3600, "mode": "Graceful"},
        "update": "OnFinish",
        "deletionPolicy": "Drain",
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "startd", "image": "startd"}]}},
        **spec,
    }
    meta = {"name": "startds", "namespace": NAMESPACE}
    server.create(
        sets_path(NAMESPACE),
        {"apiVersion": f"{GROUP}/v1alpha1", "kind": "StartdSet", "metadata": meta, "spec": whole},
    )
    return sets_path(NAMESPACE, "startds")
