"""Traced text: what `str` does, with every character's origin still the one it had."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from runtime_svc.tokens.provenance import (
    FOREIGN,
    SPOKEN,
    WRITTEN,
    Safe,
    Traced,
    concat,
    join,
    origin_of,
    written,
)

# In these texts the origin can be read off the letter, so that what an operation made can be judged alone:
# a letter of "abc, \n" is foreign, one of "xyz;\t" the template's, one of "mno" the model's.
ORIGIN = dict.fromkeys("abc, \n", FOREIGN) | dict.fromkeys("xyz;\t", WRITTEN) | dict.fromkeys("mno", SPOKEN)
LETTERS = st.text(alphabet="".join(ORIGIN), max_size=30)
SHORT = st.text(alphabet="".join(ORIGIN), min_size=1, max_size=2)


def traced(text: str) -> Traced:
    return Traced(text, bytes(ORIGIN[letter] for letter in text))


def right(made: str) -> bool:
    return list(origin_of(made)) == [ORIGIN[letter] for letter in made.lower()]


@given(LETTERS, LETTERS, st.integers(-40, 40), st.integers(-40, 40), st.sampled_from([None, 1, 2, -1, -3]))
def test_joining_and_slicing(a: str, b: str, start: int, stop: int, step: int | None) -> None:
    text = traced(a)
    for made, plain in (
        (text + traced(b), a + b),
        (text * 2, a * 2),
        (2 * text, a * 2),
        (text[start:stop:step], a[start:stop:step]),
        (concat([text, traced(b)]), a + b),
        (join(traced(b), [text, text, text]), b.join([a, a, a])),
        (traced(b).join([text, text]), b.join([a, a])),
    ):
        assert made == plain
        assert right(made)
    if a:
        at = start % len(a)
        assert (text[at], text[at - len(a)]) == (a[at], a[at])
        assert right(text[at])
    assert all(right(letter) for letter in text)


@given(LETTERS, LETTERS)
def test_a_plain_string_is_foreign_on_either_side(a: str, b: str) -> None:
    assert list(origin_of(written(a) + b)) == [WRITTEN] * len(a) + [FOREIGN] * len(b)
    assert list(origin_of(b + written(a))) == [FOREIGN] * len(b) + [WRITTEN] * len(a)
    assert list(origin_of(join(b, [written(a)] * 2))) == (
        [WRITTEN] * len(a) + [FOREIGN] * len(b) + [WRITTEN] * len(a)
    )


@given(LETTERS, st.none() | SHORT, st.integers(-1, 4))
def test_cutting(text: str, sep: str | None, most: int) -> None:
    whole = traced(text)
    for made, plain in (
        (whole.split(sep, most), text.split(sep, most)),
        (whole.rsplit(sep, most), text.rsplit(sep, most)),
        (whole.splitlines(), text.splitlines()),
        (whole.splitlines(True), text.splitlines(True)),
        ([whole.strip(sep), whole.lstrip(sep), whole.rstrip(sep)],
         [text.strip(sep), text.lstrip(sep), text.rstrip(sep)]),
    ):  # fmt: skip
        assert made == plain
        assert all(map(right, made))
    if sep is not None:
        for parts, plain_parts in (
            (whole.partition(sep), text.partition(sep)),
            (whole.rpartition(sep), text.rpartition(sep)),
            (
                [whole.removeprefix(sep), whole.removesuffix(sep)],
                [text.removeprefix(sep), text.removesuffix(sep)],
            ),
        ):
            assert parts == plain_parts
            assert all(map(right, parts))


@given(LETTERS, SHORT, LETTERS, st.integers(-1, 4))
def test_replacing(text: str, old: str, new: str, most: int) -> None:
    made = traced(text).replace(old, traced(new), most)
    assert made == text.replace(old, new, most)
    assert right(made)
    assert set(origin_of(written(text).replace(old, "??"))) <= {WRITTEN, FOREIGN}
    assert written(text).replace("", "-") == text.replace("", "-")
    assert not any(origin_of(written(text).replace("", "-")))


def test_a_separator_that_overlaps_itself_is_found_where_it_is() -> None:
    text = written("aa") + "a"
    assert list(map(origin_of, text.split("aa"))) == [b"", bytes([FOREIGN])]
    assert list(map(origin_of, text.rsplit("aa"))) == [bytes([WRITTEN]), b""]


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title, str.capitalize])
@given(text=st.text())
def test_cases(change: Callable[[str], str], text: str) -> None:
    made = getattr(written(text), change.__name__)()
    assert made == change(text)
    assert set(origin_of(made)) <= ({WRITTEN} if len(made) == len(text) else {FOREIGN})


def test_what_is_not_followed_is_foreign() -> None:
    text = written("<|end|>")
    for made in (text.center(9), f"{text}!", text.swapcase(), "".join([text, "!"]), text.encode().decode()):
        assert not any(origin_of(made))
    assert str(text) is text
    assert f"{text:>9}" == "  <|end|>"


def test_it_is_a_string_like_any_other() -> None:
    text = written("user")
    assert text == "user"
    assert hash(text) == hash("user")
    assert {"user": 1}[text] == 1
    assert text in ("system", "user")
    assert "se" in text
    with pytest.raises(TypeError):
        text["role"]  # type: ignore[index]
    with pytest.raises(TypeError):
        text + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        1 + text  # type: ignore[operator]


def test_escaped_text_escapes_it_as_it_does_any_other() -> None:
    joined: str = written("<") + Markup("<b>")
    assert joined == Markup("&lt;<b>")
    assert Markup("<b>") + written("<") == Markup("<b>&lt;")


def test_safe_text_escapes_what_it_is_added_to_and_keeps_origins() -> None:
    safe = Safe("<b>", FOREIGN)
    for made, plain in ((written("<|x|>") + safe, "&lt;|x|&gt;<b>"), (safe + written("a&"), "<b>a&amp;")):
        assert made == plain
    assert origin_of(safe + written("a&")) == bytes([FOREIGN] * 3 + [WRITTEN] * 6)
    assert origin_of(written("a<") + safe) == bytes([WRITTEN] * 5 + [FOREIGN] * 3)
    assert origin_of(safe[1:] + safe) == bytes(5)
    assert safe + safe == "<b><b>"
