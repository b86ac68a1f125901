"""Words are compared as people read them, not as they are encoded."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools_svc.suggest import did_you_mean
from tools_svc.words import words
from treni.folding import fold

NFD_IMPOT = unicodedata.normalize("NFD", "impôt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Payer l'impôt!", ["payer", "l", "impôt"]),
        (f"Payer {NFD_IMPOT}", ["payer", "impôt"]),
        ("हिन्दी की किताब", ["हिन्दी", "की", "किताब"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("ภาษาไทย", ["ภาษาไทย"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("كِتَابٌ", ["كِتَابٌ"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("co\u00adoperate", ["cooperate"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδόσ"]),
        ("q\u0323\u0307 q\u0307\u0323", ["q\u0323\u0307", "q\u0323\u0307"]),
        ("tea☕time", ["tea", "☕", "time"]),
        ("👩\u200d👩\u200d👧 👍🏽 ❤\ufe0f", ["👩\u200d👩\u200d👧", "👍🏽", "❤\ufe0f"]),
        ("🇫🇷🇩🇪", ["🇫🇷", "🇩🇪"]),
        ("snake_case 3,5", ["snake", "case", "3", "5"]),
        ("\u0301\u200d - \x00", []),
        ("", []),
    ],
)
def test_where_words_begin_and_end(text: str, expected: list[str]) -> None:
    assert words(text) == [unicodedata.normalize("NFC", word) for word in expected]


@given(st.text())
def test_how_a_text_is_encoded_makes_no_difference(text: str) -> None:
    assert (
        words(unicodedata.normalize("NFD", text)) == words(text) == words(unicodedata.normalize("NFC", text))
    )
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_every_letter_is_in_a_word_with_its_marks(text: str) -> None:
    found = words(text)
    assert all(found)
    assert "".join(filter(str.isalnum, "".join(found))) == "".join(filter(str.isalnum, fold(text)))
    assert not any(unicodedata.category(word[0]).startswith("M") for word in found)


def test_the_nearest_name_is_found_in_either_form() -> None:
    assert did_you_mean(NFD_IMPOT.upper(), ["impôt", "zzz"]) == 'did you mean "impôt"?'
    assert did_you_mean("impôt", [NFD_IMPOT, "zzz"]) == f'did you mean "{NFD_IMPOT}"?'
