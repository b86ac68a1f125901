"""Numbers by value: the final number of an answer, however it is written, against the expected one."""

from __future__ import annotations

import re
from fractions import Fraction

from pydantic import Field

from matrices.graders.grader import Grader, GraderEntry
from matrices.graders.numbers import Number, last_number, numbers, plain

MAX_SEGMENT_CHARS = 400
"""How far behind its mark a final answer is looked for."""

MAX_MARKS = 50
"""How many marks of a final answer are tried, from the last one backwards."""

_MARK = re.compile(
    r"""
      (?P<hashes>^[ \t]{0,3}\#{4,}(?!\#))
    | (?P<boxed>\\f?boxed\s{0,2}\{)
    | (?P<behind>\bis\s(?:the|our|my)\s(?:final\s|correct\s|right\s)?answer\b)
    | <answer>
    | ^[ \t*_>]{0,8}(?-i:A)\s?:
    | (?<!to\s)\banswers?\b[*_`"'\s]{0,4}
      (?:(?:to|for|of|in)\b[^.\n:=]{0,60}?|,?\s?(?:here|then|thus|therefore|hence)\b,?)?[*_`\s]{0,4}
      (?:(?:\bis|\bare|\bwas|\bequals|\b(?:would|will|should|must)\s(?:then\s)?be)\b|:|=)(?!\s{0,2}not\b|n't)
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"[.;!?](?=\s)")
_HEADING = re.compile(r"[.):]\s+\S")


class Numeric(Grader):
    r"""Compares the number that an answer ends in with the expected one, by value.

    That number is the one behind the last mark of a final answer ("#### 72", "\boxed{72}", "A: 72", "The answer is
    72."), or else the last one in the text. Separators of thousands, currencies, units, percent signs, fractions,
    powers of ten and words such as "million" are understood; words for digits are not. A percentage is right for the
    same number without its sign, and for the number that it stands for. The difference may be `tolerance`, or
    `relative_tolerance` of the expected number, whichever is more; values are exact otherwise (1/3 is not 0.333).
    """

    tolerance: float = Field(default=0.0, ge=0)
    relative_tolerance: float = Field(default=0.0, ge=0)

    def refuse(self, expected: str) -> None:
        """Raises `ValueError` for an expected answer in which there is no number."""
        number = final_number(expected)
        if number is None or number.value is None:
            raise ValueError("an expected answer with a number in it")

    def is_correct(self, answer: str, *, expected: str) -> bool:
        """Whether the answer's final number is near enough to that of the expected answer."""
        got, want = final_number(answer), final_number(expected)
        if got is None or want is None or got.value is None or want.value is None:
            return False
        if self._near(got.value, want.value):
            return True
        if got.percent == want.percent:
            return False
        if got.percent:
            return self._near(got.value / 100, want.value)
        return self._near(got.value, want.value / 100)

    def _near(self, got: Fraction, want: Fraction) -> bool:
        relative = _decimal(self.relative_tolerance) * abs(want)
        return abs(got - want) <= max(_decimal(self.tolerance), relative)


def _decimal(value: float) -> Fraction:
    """The number as it was written: 0.1 and not the double next to it."""
    return Fraction(repr(value))


def final_number(text: str) -> Number | None:
    """The number that the text gives as its answer; None where there is no number in it."""
    text = plain(text)
    for mark in reversed(list(_MARK.finditer(text))[-MAX_MARKS:]):
        number = _marked(text, mark)
        if number is not None:
            return number
    return last_number(text)


def _marked(text: str, mark: re.Match[str]) -> Number | None:
    rest = text[mark.end() : mark.end() + MAX_SEGMENT_CHARS]
    if mark["behind"] is not None:
        sentence = _SENTENCE_END.split(text[max(0, mark.start() - MAX_SEGMENT_CHARS) : mark.start()])[-1]
        return last_number(sentence.rpartition("\n")[2])
    if mark["boxed"] is not None:
        return _of_segment(_within_braces(rest))
    line = rest.lstrip("*_` \t\n").partition("\n")[0]
    if mark["hashes"] is not None:
        # Also the way that Markdown begins a heading, which may be numbered.
        line = rest.partition("\n")[0]
        number = next(numbers(line), None)
        titled = number is not None and (
            any(letter.isalpha() for letter in line[: number.start]) or _HEADING.match(line, number.end)
        )
        return None if titled else number
    sentence = _SENTENCE_END.split(line, maxsplit=1)[0]
    return _of_segment(sentence) or _of_segment(line)


def _within_braces(text: str) -> str:
    depth = 1
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[:place]
    return text


def _of_segment(segment: str) -> Number | None:
    """The number that a final answer is: the first, or of an equation that does not begin with it the lone last one."""
    found = list(numbers(segment))
    sides: dict[int, list[Number]] = {}
    for number in found:
        sides.setdefault(segment.count("=", 0, number.start), []).append(number)
    lone = [side[0] for side in sides.values() if len(side) == 1]
    if len(sides) < 2 or not lone:
        return found[0] if found else None
    begins = len(sides.get(0, [])) == 1 and not any(sign.isalpha() for sign in segment[: found[0].start])
    return found[0] if begins else lone[-1]


ENTRY = GraderEntry(name="numeric", grader=Numeric)
