"""Events, which `kubectl get events` shows with the object that they are about."""

import hashlib

from services.kube import Api, ApiError, Json
from services.times import timestamp

DIGITS = 16


async def announce(
    api: Api,
    about: Json,
    *,
    component: str,
    reason: str,
    message: str,
    warning: bool,
    now: float,
    once: bool = False,
) -> None:
    """Writes an Event; one that cannot be written is not worth a retry.

    Args:
        api: of the cluster.
        about: the object.
        component: who says so.
        reason: one word in camel case.
        message: one sentence.
        warning: or else it is normal.
        now: POSIX seconds.
        once: not again while the same is still to be read, which is an hour unless the cluster is told otherwise.
    """
    meta = about["metadata"]
    said = hashlib.sha256(f"{meta['uid']}\n{reason}\n{message}".encode()).hexdigest()[:DIGITS]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "namespace": meta["namespace"],
            **({"name": f"{meta['name']}.{said}"} if once else {"generateName": f"{meta['name']}."}),
        },
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }
    try:
        await api.create(f"/api/v1/namespaces/{meta['namespace']}/events", event)
    except ApiError:
        return
