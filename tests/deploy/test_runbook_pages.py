"""What runbooks name is there: pages, targets of make, files, keys of a stack."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
RUNBOOKS = CHECKOUT / "docs/runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))


def test_the_index_names_every_page() -> None:
    index = (RUNBOOKS / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+) [A-Z]+=", text)) <= targets


def test_the_table_of_workflows_has_each_of_them() -> None:
    text = (RUNBOOKS / "ci.md").read_text()
    workflows = {file.stem for file in (CHECKOUT / ".github/workflows").glob("*.yml")} - {"stack"}
    assert {name for name in workflows if f"\n| {name} |" in text} == workflows
    variables = set(re.findall(r"vars\.([A-Z_]+)", (CHECKOUT / ".github/workflows/stack.yml").read_text()))
    assert {name for name in variables if f"`{name}`" not in text} == set()
