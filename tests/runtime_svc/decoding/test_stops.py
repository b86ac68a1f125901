"""A text ends before its first stop string, however it is cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.decoding.stops import Stops

LETTERS = st.text("ab", min_size=1, max_size=5)


def told(text: str, stops: list[str]) -> tuple[str, str]:
    """What is passed on and which stop ends it: whichever is complete first, and of several at once the longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, ""


@given(stops=st.lists(LETTERS, max_size=3), pieces=st.lists(st.text("abc", max_size=4), max_size=6))
def test_the_pieces_make_no_difference(stops: list[str], pieces: list[str]) -> None:
    reader, passed, stop = Stops(stops), "", ""
    for piece in pieces:
        result = reader.feed(piece)
        if not isinstance(result, str):
            passed, stop = passed + result.passed, result.stop
            break
        passed += result
    else:
        passed += reader.finish()
    assert (passed, stop) == told("".join(pieces), stops)


@given(stops=st.lists(LETTERS, min_size=1, max_size=3), text=st.text("abc", max_size=12))
def test_nothing_is_passed_on_that_may_begin_a_stop(stops: list[str], text: str) -> None:
    reader, passed = Stops(stops), ""
    for end, character in enumerate(text, start=1):
        result = reader.feed(character)
        if not isinstance(result, str):
            return
        passed += result
        held = text[len(passed) : end]
        assert held == "" or any(stop.startswith(held) for stop in stops)
