import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.toolcalls import parse_tool_calls

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.text() | st.sampled_from(["</tool_call>", "<tool_call>{}", "</think>", "`", "```"])
ARGUMENTS = st.dictionaries(WORDS, JSON | WORDS, max_size=4)
NAMES = WORDS.filter(bool)


def block(text: str) -> str:
    return f"<tool_call>{text}</tool_call>"


@given(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3), st.booleans(), st.sampled_from([None, 2]))
def test_what_was_written_is_what_is_parsed(
    calls: list[tuple[str, dict[str, Any]]], arguments_first: bool, indent: int | None
) -> None:
    text = "Let me see.\n"
    written = []
    for name, arguments in calls:
        call = {"name": name, "arguments": arguments}
        if arguments_first:
            call = dict(reversed(call.items()))
        written.append(json.dumps(arguments, ensure_ascii=False))
        text += f"<tool_call>\n{json.dumps(call, ensure_ascii=False, indent=indent)}\n</tool_call>\n"
    parsed = parse_tool_calls(text)
    assert parsed.malformed == ""
    assert [call.name for call in parsed.calls] == [name for name, _ in calls]
    for got, (_, arguments), compact in zip(parsed.calls, calls, written, strict=True):
        assert json.loads(got.arguments_json) == arguments
        assert got.arguments_json in text
        assert indent is not None or got.arguments_json == compact


@given(st.text(alphabet='<>/_{}":,[]\\ \n019.-eEtoolcallnamearguments\x00é', max_size=200))
def test_no_text_raises(text: str) -> None:
    parsed = parse_tool_calls(text)
    assert len(parsed.calls) <= text.count("<tool_call>")


@given(st.text(max_size=60))
def test_no_block_raises(text: str) -> None:
    parsed = parse_tool_calls(block(text))
    assert parsed.calls or parsed.malformed


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("", "Expecting value"),
        ('{"name": "f", "arguments": {', "Expecting"),
        ('{"name": "f", "arguments": {}} trailing', "Extra data"),
        ('["name", "f"]', "an array where an object belongs"),
        ("null", "null where an object belongs"),
        ('{"arguments": {}}', "no name"),
        ('{"name": "", "arguments": {}}', "name is ''"),
        ('{"name": 3, "arguments": {}}', "name is 3"),
        ('{"name": "f"}', "no arguments"),
        ('{"name": "f", "arguments": "{}"}', "arguments are a string"),
        ('{"name": "f", "arguments": [1]}', "arguments are an array"),
        ('{"name": "f", "arguments": null}', "arguments are null"),
        ('{"name": "f", "arguments": {"x": NaN}}', "NaN is not JSON"),
        ('{"name": "f", "arguments": {"x": -Infinity}}', "-Infinity is not JSON"),
        ('{"name": "f", "arguments": {"x": 1e999}}', "1e999 is too large for a number"),
        ('{"name": "f", "arguments": {"x": [-1E400]}}', "-1E400 is too large"),
        ('{"name": "f", "arguments": {"x": ' + "9" * 5000 + "}}", "an integer of 5000 digits"),
        ('{"name": "\\ud83d", "arguments": {}}', "half a surrogate pair at /name"),
        ('{"name": "f", "arguments": {"x": ["a", "\\udc00b"]}}', "half a surrogate pair at /arguments/x/1"),
        ('{"name": "f", "arguments": {"x": {"\\ud800": 1}}}', "in a key at /arguments/x"),
        ('{"name": "f", "name": "g", "arguments": {}}', "same key twice"),
        ('{"name": "f", "arguments": {"x": 1, "x": 2}}', "same key twice"),
        ('{"name": "f", "arguments": {"x": ' + "[" * 100_000 + "}}", "nested too deeply"),
    ],
)
def test_malformed_calls_say_why(inside: str, reason: str) -> None:
    parsed = parse_tool_calls(block(inside))
    assert parsed.calls == ()
    assert parsed.malformed.startswith("tool call 1: ")
    assert reason in parsed.malformed


def test_a_block_that_is_not_closed() -> None:
    parsed = parse_tool_calls('<tool_call>\n{"name": "f", "arguments": {}}\n')
    assert parsed.calls == ()
    assert parsed.malformed == "tool call 1: no </tool_call> follows"


def test_sound_calls_beside_a_broken_one_still_count() -> None:
    good = block('{"name": "f", "arguments": {"x": 1}}')
    parsed = parse_tool_calls(good + block("{") + good)
    assert [call.arguments_json for call in parsed.calls] == ['{"x": 1}'] * 2
    assert parsed.malformed.startswith("tool call 2: ")


def test_text_without_calls() -> None:
    assert parse_tool_calls("The answer is 42.") == parse_tool_calls("")
    assert parse_tool_calls("").calls == ()
