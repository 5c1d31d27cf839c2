"""Event logs of the real engine (3.250.0), of three sites made of things: hall, hall-b and cellar.

`tests/engine/test_deploy.py` shows that the engine still writes such. Of resources only names, parents and what the
tests are about are kept.
"""

from pathlib import Path

from deploy.events import Run, read

LOGS = Path(__file__).with_name("events")


def text(name: str) -> str:
    return (LOGS / f"{name}.jsonl").read_text()


def log(name: str) -> Run:
    return read(text(name).splitlines())
