"""Alert rules, and queries of panels, judged by Prometheus' own tool: that they are such, and when an alert fires."""

import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.boards import BOARDS
from local import packages
from local.progress import Progress

pytestmark = pytest.mark.engine

CHECKOUT = Path(__file__).parents[2]
RULES = sorted((CHECKOUT / "dashboards/alerts").glob("*.yaml"))
PROMTOOL = "/usr/bin/promtool"


@pytest.fixture(scope="module", autouse=True)
def promtool(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The distribution's own."""
    log = tmp_path_factory.mktemp("promtool") / "apt.log"
    packages.ensure({PROMTOOL: "prometheus"}, purpose="promtool", log=log, progress=Progress(total=0))


def ask(*words: str) -> None:
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.stem)
def test_prometheus_takes_the_rules(file: Path) -> None:
    ask("check", "rules", "--lint=all", "--lint-fatal", str(file))


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.stem)
def test_each_alert_fires_when_it_should_and_not_otherwise(file: Path) -> None:
    ask("test", "rules", str(CHECKOUT / "tests/alerts" / file.name))


def test_prometheus_understands_what_dashboards_ask(tmp_path: Path) -> None:
    queries = {
        f"panel:{board.name}:{number}_{letter}": query.replace("$site", "dev").replace("$__rate_interval", "5m")
        for board in BOARDS
        for number, panel in enumerate(board.panels)
        for letter, query in enumerate(panel.queries.values())
    }
    assert len(queries) > 50
    # Of a query that stands alone it says nothing; so each is made a rule that records.
    file = tmp_path / "panels.yaml"
    rules = [{"record": name, "expr": query} for name, query in queries.items()]
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ask("check", "rules", "--lint=all", "--lint-fatal", str(file))
