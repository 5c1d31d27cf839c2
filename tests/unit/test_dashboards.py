"""Dashboards are made from code, and what is in the repository is what the code makes."""

import json
from pathlib import Path

import pytest

from dashboards.boards import BOARDS
from dashboards.build import built

pytestmark = pytest.mark.fast

WRITTEN = Path(__file__).parents[2] / "dashboards/grafana"


def test_what_is_written_is_what_make_docs_would_write() -> None:
    assert {file.name: file.read_text() for file in WRITTEN.iterdir()} == built()


def test_there_is_a_dashboard_of_each_part_of_a_site() -> None:
    assert [board.name for board in BOARDS] == ["sites", "startds", "squids", "cvmfs", "credentials", "nodes", "cost"]


def test_grafana_can_tell_dashboards_and_panels_apart_and_each_has_its_place() -> None:
    made = [json.loads(text) for text in built().values()]
    assert len({board["uid"] for board in made}) == len({board["title"] for board in made}) == len(made)
    for board in made:
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        fields = [
            (column, row)
            for panel in panels
            for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for row in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(set(fields)) == len(fields)
        assert max(column for column, _ in fields) < 24
        for panel in panels:
            letters = [target["refId"] for target in panel["targets"]]
            assert letters
            assert len(set(letters)) == len(letters)


def test_each_dashboard_asks_for_the_sites_that_are_chosen_alone() -> None:
    for text in built().values():
        board = json.loads(text)
        assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "site"}
        for panel in board["panels"]:
            for target in panel["targets"]:
                assert target["expr"].count("{") == target["expr"].count('namespace=~"$site')
