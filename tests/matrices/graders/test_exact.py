"""The exact grader: word for word, whatever way the letters are encoded in."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.graders.exact import Exact


@pytest.mark.parametrize(
    ("expected", "answer", "right"),
    [
        ("Zürich", "Zu\u0308rich", True),
        ("Zu\u0308rich", " Zürich\n", True),
        ("Zürich", "Zurich", False),
        ("Ångström", "\u212bngstro\u0308m", True),
        ("The result is 8.", "The result is 8", False),
        ("fi", "\ufb01", False),
    ],
)
def test_letters_are_compared(expected: str, answer: str, right: bool) -> None:
    assert Exact().is_correct(answer, expected=expected) is right


@given(st.text(), st.sampled_from(["NFC", "NFD"]))
def test_a_text_is_right_itself(text: str, form: Literal["NFC", "NFD"]) -> None:
    assert Exact().is_correct(unicodedata.normalize(form, text), expected=text)
