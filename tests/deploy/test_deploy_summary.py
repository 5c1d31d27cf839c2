"""What those who review a change are told."""

import dataclasses

import pytest

from deploy import cost, summary
from deploy.events import Failure, Pool, Run, Violation
from deploy.markdown import COMMENT_LENGTH, Section, code, join, plain
from tests.deploy.logs import LOGS, log

pytestmark = pytest.mark.fast

WHOLE = Run(preview=True, ended="succeeded", sites=("hall",))


def test_a_change_is_a_table_of_sites_and_the_names_of_what_goes() -> None:
    assert summary.section("world", log("preview")).text == (
        """\
### world: **fails**
| site | create | update | replace | delete | a month at most | difference |
| --- | --: | --: | --: | --: | --: | --: |
| cellar |  | 1 |  |  | 3,650 | +0 |
| hall |  |  | 1 |  | 7,300 | +3,650 |
| hall-b |  |  |  | 3 | 0 | -3,650 |

**Against a policy**
- `things-are-small`, cellar `cellar-squid-a`: A thing is larger than 4. Make it smaller.

**Replaced: what it is now is deleted**
- hall `hall-squid-a`, `things:index:Thing` for `shape`

**Deleted**
- hall-b `hall-b-squid-c`, `things:index:Thing`
- hall-b `hall-b-squid-a`, `things:index:Thing`
- hall-b `hall-b-b`, `things:index:Thing`

**Advice of policies**
- `no-fives`, cellar `cellar-squid-a`: Five is a strange number."""
    )


def test_sites_without_a_change_are_counted_and_not_listed() -> None:
    text = summary.section("world", log("up-that-mends")).text
    assert "| hall | 2 |" in text
    assert "hall-b" not in text
    assert text.endswith("\n2 sites without a change.")


def test_a_stack_without_a_change_is_one_line_and_clean() -> None:
    section = summary.section("world", WHOLE)
    assert section.clean
    assert section.text == "### world: no change\n\n1 site without a change."


def test_a_program_that_fails_is_told_with_its_reasons() -> None:
    text = summary.section("world", log("program-that-fails")).text
    assert text.startswith("### world: **fails**")
    assert "- cellar: no kubeconfig." in text


def test_a_program_that_fails_without_a_word_is_told_too() -> None:
    text = summary.section("world", dataclasses.replace(WHOLE, ended="failed")).text
    assert "The program failed: its own words are in the run." in text


def test_a_run_that_was_stopped_is_not_taken_for_no_change() -> None:
    section = summary.section("world", dataclasses.replace(WHOLE, ended=None))
    assert not section.clean
    assert "did not come to its end" in section.text


@pytest.mark.parametrize("name", [file.stem for file in LOGS.glob("*.jsonl")])
def test_no_value_of_a_property_is_ever_shown(name: str) -> None:
    text = summary.section("world", log(name)).text
    assert "/somewhere" not in text, "which every thing has as its place"
    assert "secret" not in text


# Money.


def test_a_month_costs_what_all_pools_cost_when_they_are_full() -> None:
    pools = [Pool(most=10, price_per_hour=0.5), Pool(most=2, price_per_hour=1.0)]
    month = cost.of(dataclasses.replace(WHOLE, pools_before={}, pools_after={"hall": pools}), "hall")
    assert month.before == 0
    assert month.difference == month.after == 730 * 7


@pytest.mark.parametrize(
    "after",
    [None, {"hall": None}, {"hall": [Pool(most=1, price_per_hour=None)]}],
    ids=["no outputs", "nobody knows of nodes", "no price"],
)
def test_a_cost_that_nobody_knows_is_not_nothing(after: dict[str, list[Pool] | None] | None) -> None:
    run = dataclasses.replace(WHOLE, pools_before={"hall": [Pool(most=1, price_per_hour=1)]}, pools_after=after)
    assert cost.of(run, "hall").after is None
    assert "| ? | ? |" in summary.section("world", run).text


# What comes from a stack is text.


@pytest.mark.parametrize(
    ("wild", "tame"),
    [
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("@everyone", "@\u200beveryone"),
        ("[click](https://example.org)", r"\[click\](https://example.org)"),
        ("a | b", r"a \| b"),
        ("one\ntwo", "one two"),
        ("fixes #1", r"fixes \#1"),
    ],
)
def test_words_of_a_stack_are_no_markup(wild: str, tame: str) -> None:
    assert plain(wild) == tame


def test_names_cannot_leave_their_code() -> None:
    assert code("a`b|c\nd") == "`a'b¦c d`"


def test_whatever_a_policy_or_a_cloud_says_is_shown_as_it_is() -> None:
    wild = "**x** <b>"
    run = dataclasses.replace(
        WHOLE,
        failures=[Failure(site="hall", name="a", message=wild)],
        violations=[Violation(site="hall", name="a", policy="p", mandatory=True, message=wild)],
    )
    assert summary.section("world", run).text.count(r"\*\*x\*\* &lt;b&gt;") == 2


# The comment.


def section(stack: str, lines: int) -> Section:
    return Section(stack=stack, clean=False, text="\n".join([f"### {stack}", *(f"- line {n}" for n in range(lines))]))


def test_the_comment_has_a_section_for_each_stack_and_says_which_is_missing() -> None:
    text = join(summary.HEAD, [section("b", 1), section("a", 1)], missing=["lost"])
    assert text.startswith(summary.MARKER)
    assert text.index("### a") < text.index("### b") < text.index("### lost\nNo result")


def test_a_comment_is_never_longer_than_github_takes_and_short_stacks_lose_nothing() -> None:
    whole = [section("large", 9000), section("larger", 20000), section("small", 100)]
    text = join(summary.HEAD, whole, missing=["lost"])
    assert COMMENT_LENGTH - 200 < len(text) <= COMMENT_LENGTH
    assert whole[2].text in text
    assert text.count("more lines, in the run.") == 2
    assert all(line in {"", summary.MARKER} or line[0] in "#-…NCc" for line in text.splitlines()), "no half a line"


def test_a_section_survives_the_way_between_jobs() -> None:
    assert Section.from_json(section("a", 3).to_json()) == section("a", 3)
    with pytest.raises(ValueError, match="not a section"):
        Section.from_json('{"stack": 1}')
