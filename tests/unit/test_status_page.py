"""docs/status.md promises a test for each point; this keeps the promise."""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
GROUPS_IN_CI = {"fast", "engine", "cluster"}


def named_tests() -> list[tuple[str, str]]:
    return NAMED_TEST.findall((CHECKOUT / "docs/status.md").read_text())


def groups(tree: ast.Module) -> set[str]:
    """The markers that the module gives to all of its tests."""
    return {
        node.attr
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and any(ast.unparse(target) == "pytestmark" for target in statement.targets)
        for node in ast.walk(statement.value)
        if isinstance(node, ast.Attribute)
    } & GROUPS_IN_CI


def test_the_status_page_names_tests() -> None:
    assert len(named_tests()) >= 10


@pytest.mark.parametrize(("path", "name"), named_tests())
def test_each_test_that_the_status_page_names_exists_and_runs_in_ci(path: str, name: str) -> None:
    tree = ast.parse((CHECKOUT / path).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions
    assert groups(tree), f"{path} is in none of the groups that CI runs"


@pytest.mark.parametrize("path", sorted((CHECKOUT / "tests").rglob("test_*.py")), ids=str)
def test_each_test_module_says_what_it_needs(path: Path) -> None:
    assert len(groups(ast.parse(path.read_text()))) == 1
