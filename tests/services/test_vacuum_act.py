"""How a decision is carried out: one create, then more and more side by side, and none after a refusal."""

import asyncio
from typing import Any

import pytest

from benchmarks.vacuum_scale.objects import startdset
from services.kube import Api, DeniedError, Json
from services.vacuum.act import AT_ONCE, Actor
from services.vacuum.model import Create

pytestmark = pytest.mark.fast


class Refusing(Api):
    """Takes so many creates and no more; each lasts a moment."""

    def __init__(self, most: int) -> None:
        self.namespace = "here"
        self.most = most
        self.asked: list[str] = []
        self.at_once: list[int] = []
        self._open = 0

    async def create(self, path: str, body: Json) -> Json:
        del path
        self.asked.append(body["metadata"]["name"])
        self._open += 1
        self.at_once.append(self._open)
        await asyncio.sleep(0)
        self._open -= 1
        if len(self.asked) > self.most:
            raise DeniedError(403, "Forbidden", "exceeded quota")
        return body


def carry_out(api: Refusing, number: int) -> None:
    raw: Any = startdset(number, None)
    raw["metadata"].update(namespace="here", uid="u")
    asyncio.run(Actor(api).carry_out(raw, [Create(sequence=n) for n in range(number)], "t"))


def test_all_creates_go_out_once_and_no_more_of_them_at_once_than_may() -> None:
    api = Refusing(most=1000)
    carry_out(api, 300)
    assert sorted(api.asked) == sorted(f"startds-{n}" for n in range(300))
    assert api.at_once[0] == 1
    assert max(api.at_once) == AT_ONCE


@pytest.mark.parametrize(("most", "calls"), [(0, 1), (1, 3), (50, 50 + 2 * AT_ONCE)])
def test_a_refusal_costs_few_calls(most: int, calls: int) -> None:
    api = Refusing(most)
    with pytest.raises(DeniedError):
        carry_out(api, 1000)
    assert most < len(api.asked) <= calls
