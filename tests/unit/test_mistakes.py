"""A mistake in a stack file is one sentence: the path of the key, the value, what is allowed."""

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings as runs, strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

import mistakes

pytestmark = pytest.mark.fast


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    cache_mib: Annotated[int, Field(ge=64, le=128)] = 64
    refresh_hours: int | None = None
    mode: Literal["daemonset", "host"] = "host"
    share: float = 1.0
    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("a",)
    key: str = ""


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    name: str
    part: Part | None = None
    max_seconds: int


def told(value: object) -> list[str]:
    """The sentences about a list of `Whole` under the key sites."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[tuple[Whole, ...], Field(min_length=1)]).validate_json(json.dumps(value))
    return mistakes.sentences("sites", Whole, caught.value)


def told_of(part: object) -> list[str]:
    return told([{"name": "a", "maxSeconds": 1, "part": part}])


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"cacheMib": "2Gi"}, "sites[0].part.cacheMib is '2Gi'; allowed: a whole number of MiB."),
        ({"cacheMib": 70.5}, "sites[0].part.cacheMib is 70.5; allowed: a whole number of MiB."),
        ({"cacheMib": True}, "sites[0].part.cacheMib is true; allowed: a whole number of MiB."),
        ({"cacheMib": 5}, "sites[0].part.cacheMib is 5; allowed: at least 64 MiB."),
        ({"cacheMib": 500}, "sites[0].part.cacheMib is 500; allowed: at most 128 MiB."),
        ({"cacheMib": None}, "sites[0].part.cacheMib is empty; allowed: a whole number of MiB."),
        ({"refreshHours": "6 h"}, "sites[0].part.refreshHours is '6 h'; allowed: a whole number of hours."),
        ({"mode": "csi"}, "sites[0].part.mode is 'csi'; allowed: 'daemonset' or 'host'."),
        ({"share": "half"}, "sites[0].part.share is 'half'; allowed: a number."),
        ({"names": []}, "sites[0].part.names is an empty list; allowed: at least 1 entry."),
        ({"names": "a"}, "sites[0].part.names is 'a'; allowed: a list."),
        ({"names": {"a": 1}}, "sites[0].part.names is a block of keys; allowed: a list."),
        ({"names": ["a", 5]}, "sites[0].part.names[1] is 5; allowed: text."),
        ([1], "sites[0].part is a list; allowed: a block of keys."),
        ({"cacheMiB": 70}, "sites[0].part.cacheMiB is not a key: did you mean cacheMib."),
        ({"cach": 70}, "sites[0].part.cach is not a key: did you mean cacheMib."),
        (
            {"quota": 70},
            "sites[0].part.quota is not a key: the keys here are cacheMib, refreshHours, mode, share, names, key.",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_path_and_with_what_is_allowed(part: object, sentence: str) -> None:
    assert told_of(part) == [sentence]


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        ([], ["sites is an empty list; allowed: at least 1 entry."]),
        ({}, ["sites is a block of keys; allowed: a list."]),
        ([None], ["sites[0] is empty; allowed: a block of keys."]),
        ([{"name": "a"}], ["sites[0].maxSeconds is missing: give it in seconds."]),
        ([{"maxSeconds": 1}], ["sites[0].name is missing."]),
    ],
)
def test_a_wrong_whole_is_told_too(value: object, sentences: list[str]) -> None:
    assert told(value) == sentences


def test_all_mistakes_are_told_at_once_and_none_twice() -> None:
    assert told([{"name": 5, "maxSeconds": 1}, {"nam": "b", "maxSeconds": "x"}]) == [
        "sites[0].name is 5; allowed: text.",
        "sites[1].name is missing.",
        "sites[1].maxSeconds is 'x'; allowed: a whole number of seconds.",
        "sites[1].nam is not a key: did you mean name.",
    ]


def test_text_in_the_place_of_structure_is_told_without_a_parser_s_words() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(tuple[Whole, ...]).validate_json("see below")
    assert mistakes.sentences("sites", Whole, caught.value) == [
        "sites is text that is neither a list nor a block of keys; Pulumi.dev.yaml shows its form."
    ]


def test_a_check_of_our_own_says_what_is_allowed_in_its_own_words() -> None:
    error = ValidationError.from_exception_data(
        "x",
        [{"type": PydanticCustomError("not_allowed", "a host"), "loc": ("name",), "input": "?"}],
    )
    assert mistakes.sentences("sites", Whole, error) == ["sites.name is '?'; allowed: a host."]


def test_a_long_value_is_cut() -> None:
    (sentence,) = told_of({"mode": "x" * 1000})
    assert len(sentence) < 200


@pytest.mark.parametrize("part", [{"key": 5.5, "mode": 1}, {"mode": "-----BEGIN PRIVATE KEY-----secret"}])
def test_a_number_is_shown_and_a_private_key_is_not(part: dict[str, Any]) -> None:
    assert all("secret" not in sentence for sentence in told_of(part))


@runs(deadline=None)
@given(st.text(min_size=1))
def test_whatever_is_under_a_key_that_holds_a_private_key_is_never_shown(text: str) -> None:
    sentence = mistakes.sentence(
        "sites", Whole, {"type": "not_allowed", "loc": (0, "part", "key"), "msg": "a key", "input": text}
    )
    assert sentence == "sites[0].part.key is text that is not shown here; allowed: a key."


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "part", "maxSeconds", "cacheMib", "names", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@runs(deadline=None)
@given(json_values)
def test_any_nonsense_is_answered_with_sentences_of_one_line(value: object) -> None:
    try:
        TypeAdapter(tuple[Whole, ...]).validate_json(json.dumps(value))
    except ValidationError as error:
        sentences = mistakes.sentences("sites", Whole, error)
        assert sentences
        for sentence in sentences:
            assert sentence.startswith("sites")
            assert sentence.endswith(".")
            assert "\n" not in sentence
            assert not {"Input should", "should have", "Tuple", "valid"} & set(sentence.split())
