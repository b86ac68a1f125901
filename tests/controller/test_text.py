from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.text import TextGate, before_tool_calls

CALL = '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'
plain = st.text(alphabet="ab <tol_c\n", max_size=30).filter(lambda text: "<tool_call" not in text)


def stream(text: str, cuts: list[int]) -> tuple[str, TextGate]:
    gate = TextGate()
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    shown = [gate.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    return "".join(shown), gate


@given(text=plain, cuts=st.lists(st.integers(0, 1000)))
def test_without_a_call_everything_is_shown_in_the_end(text: str, cuts: list[int]) -> None:
    shown, gate = stream(text, cuts)
    assert shown + gate.rest() == text


@given(before=plain, cuts=st.lists(st.integers(0, 1000)))
def test_of_a_call_nothing_is_shown_however_it_is_cut(before: str, cuts: list[int]) -> None:
    text = before + CALL + "\n" + CALL
    shown, _ = stream(text, cuts)
    visible = text.partition("<tool_call")[0]
    assert shown == ("" if visible.isspace() else visible)


def test_only_what_may_begin_a_call_is_held_back() -> None:
    gate = TextGate()
    assert gate.feed("a < b") == "a < b"
    assert gate.feed(", <tool") == ", "
    assert gate.feed("box>") == "<toolbox>"


@pytest.mark.parametrize(
    ("completion", "before"),
    [(CALL, ""), ("Let me see.\n" + CALL, "Let me see."), ("a\n\n" + CALL, "a\n"), ("no call", "no call")],
)
def test_before_tool_calls(completion: str, before: str) -> None:
    assert before_tool_calls(completion) == before
