"""Two controllers that are a loop and nothing else, each a process: what making pods costs by itself, and by polling.

Both use the vacuum controller's own client, so that what differs is the loop.
"""

import argparse
import asyncio
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.vacuum_scale.objects import NAME, PODS, pod
from services.kube import Api, from_kubeconfig

# The shortest with which prp is found (vacuum.md section 2).
POLL_SECONDS = 10.0


async def bare(api: Api, wanted: Path, workers: int) -> None:
    """Makes pods up to the number in a file, so many side by side, and looks at nothing."""
    made = 0
    while True:
        numbers = iter(range(made, made := max(made, _read(wanted))))
        await asyncio.gather(*(_make(api, numbers) for _ in range(workers)))
        await asyncio.sleep(0.05)


async def _make(api: Api, numbers: Iterator[int]) -> None:
    for number in numbers:
        await api.create(PODS, pod(f"{NAME}-{number}"))


async def poll(api: Api, wanted: Path) -> None:
    """As prp does: reads all pods every few seconds, and makes those that lack one after the other."""
    numbers = itertools.count()
    while True:
        items = (await api.get(PODS))["items"]
        alive = sum(item["status"]["phase"] not in {"Succeeded", "Failed"} for item in items)
        for number in itertools.islice(numbers, max(0, _read(wanted) - alive)):
            await api.create(PODS, pod(f"{NAME}-{number}"))
        await asyncio.sleep(POLL_SECONDS)


def _read(wanted: Path) -> int:
    return int(wanted.read_text())


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.vacuum_scale.loops", description=__doc__)
    parser.add_argument("loop", choices=["bare", "poll"])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--wanted", type=Path, required=True, help="the file with the number of pods")
    parser.add_argument("--workers", type=int, default=1, help="creates side by side")
    options = parser.parse_args(words)

    async def run() -> None:
        api = Api(from_kubeconfig(options.kubeconfig))
        try:
            await (bare(api, options.wanted, options.workers) if options.loop == "bare" else poll(api, options.wanted))
        finally:
            await api.close()

    asyncio.run(run())


if __name__ == "__main__":
    main()
