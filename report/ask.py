"""Asks a stack for its sites, and each site's accounting for its month."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from report.books import Books

STACK_SECONDS = 120
SITE_SECONDS = 60
ATTEMPTS = 2


class AskError(Exception):
    """One sentence: what could not be read, and what to do."""


def sites(stack: str, pulumi: Sequence[str | Path] = ("pulumi",)) -> Mapping[str, Mapping[str, object]]:
    """The stack's sites, as its outputs have them (docs/outputs.schema.json).

    Raises:
        AskError: the stack cannot be read, or has none.
    """
    words = [*pulumi, "stack", "output", "--json", "--show-secrets", "--stack", stack]
    found: Mapping[str, Mapping[str, object]] = _json(words, STACK_SECONDS, f"the outputs of stack {stack}").get(
        "sites", {}
    )
    if not found:
        raise AskError(f"stack {stack} has no sites: `make up STACK={stack}` makes them")
    return found


def books(name: str, site: Mapping[str, object], month: date, kubectl: Sequence[str | Path] = ("kubectl",)) -> Books:
    """What the site's accounting tells of a month.

    Raises:
        AskError: it keeps no books, cannot be reached, or says what makes no sense.
    """
    metrics, cluster = site.get("metrics"), site.get("cluster")
    if not isinstance(metrics, Mapping) or not metrics.get("accounting"):
        raise AskError("it keeps no books: give it accounting: in the stack file")
    kubeconfig = cluster.get("kubeconfig") if isinstance(cluster, Mapping) else None
    with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as file:  # private from the beginning
        file.write(str(kubeconfig))
        file.flush()
        words = [
            *kubectl, f"--kubeconfig={file.name}", f"--namespace={site.get('namespace')}",
            f"--request-timeout={SITE_SECONDS}s", "exec", "deploy/accounting", "--",
            "python3", "-m", "services.accounting", "daily", f"--month={month:%Y-%m}",
        ]  # fmt: skip
        try:
            return Books.model_validate(_json(words, SITE_SECONDS, f"the accounting of site {name}"))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise AskError(f"its accounting is of another release ({where}): `make up` renews it") from None


def _json(words: Sequence[str | Path], seconds: int, what: str) -> dict[str, Mapping[str, Mapping[str, object]]]:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
        except FileNotFoundError:
            raise AskError(f"{what}: {words[0]} is not on PATH; install it, or see `make env`") from None
        except subprocess.TimeoutExpired:
            said = f"nothing in {seconds} s"
        else:
            if done.returncode == 0:
                try:
                    return dict(json.loads(done.stdout))
                except (TypeError, ValueError):
                    raise AskError(f"{what}: what came is no JSON object") from None
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if attempt == ATTEMPTS:
            raise AskError(f"{what} cannot be read: {said}")
    raise AssertionError("every attempt ends")
