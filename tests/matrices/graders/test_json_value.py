"""The JSON grader: values are compared, not their spelling, and what is no JSON is wrong."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.graders.json_value import JsonValue

EQUAL = JsonValue()
SUBSET = JsonValue(match="subset")
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def _schema(match: str) -> JsonValue:
    return JsonValue.model_validate({"match": match, "schema": PERSON})


@pytest.mark.parametrize(
    ("grader", "expected", "answer", "right"),
    [
        (EQUAL, '{"a": 1, "b": [true, null]}', '{"b":[true,null],"a":1.0}', True),
        (EQUAL, '{"a": 1}', '```json\n{"a": 1}\n```', True),
        (EQUAL, '{"a": 1}', 'Here it is:\n\n```\n{"a": 1}\n```\nAnything else?', True),
        (EQUAL, '{"a": 1}', '```\n{"a": 1}\n```\n```\n{"a": 1}\n```', False),
        (EQUAL, '{"a": 1}', 'It is {"a": 1}.', False),
        (EQUAL, '{"a": 1}', '\ufeff{"a": 1}\n', True),
        (EQUAL, '{"a": 1}', '{"a": true}', False),
        (EQUAL, '{"a": 1}', '{"a": "1"}', False),
        (EQUAL, '{"a": 1}', '{"a": 1, "a": 1}', False),
        (EQUAL, '{"a": 1}', '{"a": 2, "a": 1}', False),
        (EQUAL, '{"a": 1}', '{"a": 1, "b": 2}', False),
        (EQUAL, '{"é": "é"}', '{"e\u0301": "e\u0301"}', True),
        (EQUAL, "[1, 2]", "[2, 1]", False),
        (EQUAL, "[1, 2]", "[1, 2, 3]", False),
        (EQUAL, "0.1", "0.10000000000000000000001", False),
        (EQUAL, "1000", "1e3", True),
        (EQUAL, "1", "NaN", False),
        (EQUAL, "1", "Infinity", False),
        (EQUAL, "1", "1e" + "9" * 60, False),
        (EQUAL, "1", "9" * 10_000, False),
        (EQUAL, "[]", "[" * 50_000 + "]" * 50_000, False),
        (EQUAL, "null", "", False),
        (SUBSET, '{"a": {"b": 1}}', '{"a": {"b": 1, "c": 2}, "d": 3}', True),
        (SUBSET, '{"a": {"b": 1}}', '{"a": {"c": 2}}', False),
        (SUBSET, "[1]", "[1, 2]", False),
        (_schema("schema"), '{"age": 1}', '{"age": 30}', True),
        (_schema("schema"), '{"age": 1}', '{"age": "30"}', False),
        (_schema("equal"), '{"age": 1}', '{"age": 2}', False),
        (_schema("subset"), '{"age": 1}', '{"age": 1, "name": "x"}', True),
    ],
)
def test_values_are_compared(grader: JsonValue, expected: str, answer: str, right: bool) -> None:
    grader.refuse(expected)
    assert grader.is_correct(answer, expected=expected) is right


@pytest.mark.parametrize(
    ("grader", "expected"),
    [(EQUAL, "yes"), (EQUAL, '{"a": 1, "a": 2}'), (EQUAL, "NaN"), (_schema("equal"), '{"age": "x"}')],
)
def test_an_expected_answer_is_json_that_fits(grader: JsonValue, expected: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        grader.refuse(expected)


@pytest.mark.parametrize(
    "options", [{"match": "schema"}, {"schema": {"type": "nonsense"}}, {"match": "some"}]
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        JsonValue.model_validate(options)


def test_a_schema_fetches_nothing() -> None:
    grader = JsonValue.model_validate({"schema": {"$ref": "http://127.0.0.1:9/schema.json"}})
    with pytest.raises(ValueError, match="fits the schema"):
        grader.refuse("1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_a_value_is_right_itself_in_any_order_of_keys(value: object, fenced: bool) -> None:
    expected = json.dumps(value, ensure_ascii=False)
    try:
        EQUAL.refuse(expected)
    except ValueError:
        return  # two keys that differ only in how their accents are encoded
    answer = json.dumps(value, sort_keys=True, indent=2)
    assert EQUAL.is_correct(f"```json\n{answer}\n```" if fenced else answer, expected=expected)


@given(st.text(max_size=80), st.text(max_size=20))
def test_any_text_is_judged(answer: str, expected: str) -> None:
    EQUAL.is_correct(answer, expected=expected)


@pytest.mark.parametrize("part", ["[", "{", '{"a":', "1", "```\n", " ", '"', "[1,", "\\"])
def test_long_answers_are_read_once(part: str) -> None:
    assert not EQUAL.is_correct(part * (100_000 // len(part)), expected="[]")
