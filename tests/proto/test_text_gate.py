from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treni.text_gate import TextGate, reading_of
from treni.v1 import inference_pb2

CALL = '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'
plain = st.text(alphabet="ab <tol_c\n", max_size=30).filter(lambda text: "<tool_call" not in text)


def stream(text: str, cuts: list[int]) -> tuple[str, TextGate]:
    gate = TextGate()
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    shown = [gate.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    return "".join(shown), gate


def whole(text: str) -> inference_pb2.GenerateFinish:
    """The finish of a server that tells nothing of its text."""
    return inference_pb2.GenerateFinish(text=text)


@given(text=plain, cuts=st.lists(st.integers(0, 1000)))
def test_without_a_call_everything_is_shown_in_the_end(text: str, cuts: list[int]) -> None:
    shown, gate = stream(text, cuts)
    assert shown + gate.rest(text) == ("" if text.isspace() else text)


@given(before=plain, cuts=st.lists(st.integers(0, 1000)))
def test_of_a_call_nothing_is_shown_however_it_is_cut(before: str, cuts: list[int]) -> None:
    text = before + CALL + "\n" + CALL
    shown, gate = stream(text, cuts)
    visible = text.partition("<tool_call")[0]
    assert shown == ("" if visible.isspace() else visible)
    assert gate.rest(reading_of(whole(text)).content) == ""


@given(
    thought=plain.map(lambda text: f"<think>{text}{CALL}</think>"),
    blank=st.sampled_from(["", "\n", " \n\n"]),
    said=plain.filter(lambda text: text == text.lstrip()),
    cuts=st.lists(st.integers(0, 1000)),
)
def test_of_a_thought_nothing_is_shown_however_it_is_cut(
    thought: str, blank: str, said: str, cuts: list[int]
) -> None:
    text = blank + thought + blank + said
    shown, gate = stream(text, cuts)
    assert said.startswith(shown)
    content = reading_of(whole(text)).content
    assert content == said
    assert shown + gate.rest(content) == said


@given(text=plain, cuts=st.lists(st.integers(0, 1000)))
def test_of_a_thought_without_an_end_nothing_is_shown(text: str, cuts: list[int]) -> None:
    shown, gate = stream(f"<think>{text}{CALL}", cuts)
    reading = reading_of(whole(f"<think>{text}{CALL}"))
    assert (shown, reading.content, reading.blocks, reading.open) == ("", "", (), True)
    assert gate.rest("") == ""


def test_a_mention_held_back_is_shown_when_it_turns_out_to_be_none() -> None:
    text = "Wrap it in `<tool_call>` tags."
    shown, gate = stream(text, [])
    assert shown == "Wrap it in `"
    assert gate.rest(reading_of(whole(text)).content) == "<tool_call>` tags."


def test_what_was_shown_is_not_shown_again_when_it_turns_out_to_have_been_thought() -> None:
    gate = TextGate()
    assert gate.feed("Let me think. ") == "Let me think. "
    content = reading_of(whole("Let me think. </think>42.")).content
    assert content == "42."
    assert gate.rest(content) == ""


def test_what_the_server_tells_goes_first() -> None:
    finish = inference_pb2.GenerateFinish(
        text="a </think> b", content="a </think> b", thinking="c", unfinished_thought=True
    )
    reading = reading_of(finish)
    assert (reading.content, reading.thinking, reading.open) == ("a </think> b", "c", True)
    assert reading_of(inference_pb2.GenerateFinish(text="a", content="")).content == ""


def test_only_what_may_begin_a_call_is_held_back() -> None:
    gate = TextGate()
    assert gate.feed("a < b") == "a < b"
    assert gate.feed(", <tool") == ", "
    assert gate.feed("box>") == "<toolbox>"


@pytest.mark.parametrize(
    ("completion", "before"),
    [(CALL, ""), ("Let me see.\n" + CALL, "Let me see."), ("a\n\n" + CALL, "a\n"), ("no call", "no call")],
)
def test_what_is_said_before_tool_calls(completion: str, before: str) -> None:
    assert reading_of(whole(completion)).content == before
