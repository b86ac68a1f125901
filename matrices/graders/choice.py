"""Multiple choice: the letter that an answer chooses, in whichever form it says so."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from string import ascii_uppercase

from pydantic import Field, field_validator

from matrices.graders.grader import Grader, GraderEntry

MAX_MARKS = 50
"""How many marks of a choice are tried, from the last one backwards."""

_DECORATION = "*_`\"'“”‘’«»$ \t\r\n"
_OPEN = r"[\s*_`\"'“‘«$(\[{]{0,6}"
_CLOSE = r"[*_`\"'”’»$)\]}]{0,6}"
_BLANK = r"[\s*_`:]{0,4}"

# What gives an answer as the final one; then what prefers one choice; a letter, or a choice's text, follows.
_FINAL = re.compile(
    r"""
      (?<!to\s)\b(?:answers?|choice|response|solution)\b[*_`\s]{0,4}
      (?:(?:to|for)\b[^.\n:=]{0,60}?|(?:here|then|thus|therefore)\b)?[*_`\s]{0,4}
      (?:(?:\bis|\b(?:would|will|should|must)\sbe)\b|:|=)
      (?:\s{1,2}(?:most\s)?(?:likely|probably|clearly|definitely|certainly|therefore|thus|simply|indeed|option|choice)\b)?
    | ^[ \t]{0,3}\#{4,}(?!\#)
    | \\f?boxed\s{0,2}\{(?:\\text\s{0,2}\{)?
    | <answer>
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_PREFERRED = re.compile(
    r"\b(?:choose|chose|choosing|pick|picked|select|selected|go(?:ing)?\swith|went\swith|"
    r"(?:correct|right|best)\s(?:option|one|letter)\s?(?:is|:))\b"
    r"(?:\s(?:option|choice|letter|answer))?",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:option|choice|letter|answer)\b", re.IGNORECASE)
_SAID_OF = re.compile(
    r"\s{1,2}(?:is|seems|looks|must\sbe|would\sbe|has\sto\sbe)\s(?:(?:clearly|most|likely|also|therefore|thus)\s){0,2}"
    r"(?:the\s)?(?:most\s)?(?:correct|right|true|best|accurate|appropriate|answer)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\s{0,2}(?:(?:is|are|was|seems)(?:n't|n’t|\s(?:not|never|incorrect|wrong|false|untrue|out|impossible))\b|can(?:no|\W)?t\b)",
    re.IGNORECASE,
)
_NOT = re.compile(rf"{_BLANK}(?:not|neither|none|never|n['’]t)\b", re.IGNORECASE)
_LETTER = re.compile(rf"(?P<open>{_OPEN})(?P<letter>[A-Za-z])(?![\w'’-]*[A-Za-z0-9])(?P<close>{_CLOSE})")
_ANOTHER = re.compile(
    r"\s{0,2}(?:,|/|&|\b(?:and|or|nor|as\swell\sas)\b)\s{0,2}(?:\(|\[|\*\*)?([A-Z])\b(?!['’])", re.IGNORECASE
)
_CONNECTIVE = re.compile(
    r"\s{1,2}(?:because|since|as|for|which|due|is|was|[-–—=(])(?:\b|(?<=\W))", re.IGNORECASE
)
_HEADED = re.compile(r"[ \t]{0,8}(?:\n|$)|\s{0,2}[,;–—-]\s|" + _CONNECTIVE.pattern, re.IGNORECASE)
_CALLED = re.compile(r"\b(?:option|choice|letter)\s[*_`]{0,2}$", re.IGNORECASE)
_BARE = re.compile(
    r"(?<![A-Za-z0-9_À-ɏ'’-])(?P<open>[(\[*_`]{0,4})(?P<letter>[A-Za-z])(?P<close>[)\].:*_`]{0,5})(?![A-Za-z0-9_À-ɏ'’-])"
)


class Choice(Grader):
    """Reads which of the `choices` an answer chooses, and compares its letter with the expected one.

    The choices are texts, lettered from A. A letter is taken where it stands alone ("B", "(b)", "**B**"), behind a
    mark ("The answer is B.", "Answer: b", "#### B"), before a verdict ("B is correct"), or at the head of a line
    ("B) Paris"); so is the text of a choice that stands alone or behind a mark. A small letter counts only where
    something marks it, and "A" and "I" not as words of a sentence. An answer that chooses several, or none, is wrong.
    """

    choices: tuple[str, ...] = Field(min_length=2, max_length=26, strict=False)

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: tuple[str, ...]) -> tuple[str, ...]:
        words = [_words(text) for text in choices]
        if "" in words or len(set(words)) < len(words):
            raise ValueError("choices that differ and are not empty")
        return choices

    @property
    def letters(self) -> str:
        """The letters of the choices, in order."""
        return ascii_uppercase[: len(self.choices)]

    def refuse(self, expected: str) -> None:
        """Raises `ValueError` for an expected answer that is not the letter of a choice."""
        if expected.strip() not in tuple(self.letters):
            raise ValueError(f"one of the letters {', '.join(self.letters)} as the expected answer")

    def is_correct(self, answer: str, *, expected: str) -> bool:
        """Whether the answer chooses the expected letter."""
        return self.chosen(answer) == expected.strip()

    def chosen(self, answer: str) -> str | None:
        """The letter that the answer chooses; None where it chooses none, or several."""
        text = unicodedata.normalize("NFKC", answer).strip()
        alone = _alone(text)
        if alone is not None:
            return alone if alone in self.letters else None
        if (letter := self._of_text(text)) is not None:
            return letter
        finals = list(_FINAL.finditer(text))[-MAX_MARKS:]
        for mark in reversed(finals):
            if _NOT.match(text, mark.end()) is not None:
                continue
            found = self._behind(text, mark.end(), text_too=True)
            if found is not None:
                return found or None
        return self._verdict(text) or self._preferred(text) or self._named(text)

    def _behind(self, text: str, place: int, *, text_too: bool) -> str | None:
        """The letter chosen at that place; "" for several, None where there is no choice."""
        start = _skip(text, place)
        named = _NAMED.match(text, start)
        if named is not None:
            start = _skip(text, named.end())
        if text_too and (letter := self._begins(text[start : start + 1000])) is not None:
            return letter
        found = _LETTER.match(text, start)
        if found is None or found["letter"].upper() not in self.letters:
            return None
        if self._several(text, found):
            return ""
        return found["letter"].upper() if _stands(text, found, marked=named is not None) else None

    def _several(self, text: str, found: re.Match[str]) -> bool:
        """Whether another choice follows the one that was found, as in "A or B"."""
        another = _ANOTHER.match(text, found.end())
        return another is not None and another[1] in self.letters

    def _verdict(self, text: str) -> str | None:
        """The one letter of which it is said that it is right."""
        return _only(
            found["letter"]
            for found in _BARE.finditer(text)
            if found["letter"] in self.letters and _SAID_OF.match(text, found.end()) is not None
        )

    def _preferred(self, text: str) -> str | None:
        marks = list(_PREFERRED.finditer(text))[-MAX_MARKS:]
        found = [self._behind(text, mark.end(), text_too=True) for mark in marks]
        return _only(letter for letter in found if letter is not None)

    def _named(self, text: str) -> str | None:
        """The one letter that heads a line, is called an option, or ends the text."""
        letters = []
        for found in _BARE.finditer(text):
            letter, signs = found["letter"], found["open"] + found["close"]
            if letter.upper() not in self.letters or _DENIED.match(text, found.end()) is not None:
                continue
            if letter.isupper() and self._several(text, found):
                return None
            before = text[max(0, found.start() - 24) : found.start()]
            heads = found.start() == 0 or before.rstrip(" \t-•").endswith("\n")
            if (
                _CALLED.search(before) is not None
                or (set(signs) & set(")]") and (heads or letter.isupper() or set(signs) & set("([")))
                or (
                    letter.isupper()
                    and heads
                    and (set(signs) & set(".:*`") or _HEADED.match(text, found.end()))
                )
                or (
                    letter.isupper()
                    and text[found.end() : found.end() + 40].strip(_DECORATION + ".!。") == ""
                )
            ):
                letters.append(letter.upper())
        return _only(letters)

    def _of_text(self, text: str) -> str | None:
        """The letter of the choice whose text this is, apart from case and signs at its ends."""
        words = _words(text) if len(text) <= 1000 else ""
        return next((self.letters[i] for i, one in enumerate(self.choices) if _words(one) == words), None)

    def _begins(self, segment: str) -> str | None:
        """The letter of the longest choice whose text the segment begins with."""
        line = _words(segment.partition("\n")[0], whole=False)
        matching = [
            (len(words), self.letters[index])
            for index, text in enumerate(self.choices)
            if line.startswith(words := _words(text)) and not line[len(words) : len(words) + 1].isalnum()
        ]
        # A choice that is itself a letter is no text to go by.
        return max(matching)[1] if matching and max(matching)[0] > 1 else None


def _alone(text: str) -> str | None:
    """The letter of a text that is nothing but a letter, in brackets, with a dot, bold, or boxed."""
    if len(text) > 40:
        return None
    bare = re.sub(r"\\f?boxed|\\text|\\mathrm|\\[()\[\]]", "", text)
    bare = bare.strip(_DECORATION + "()[]{}<>.:#!")
    return bare.upper() if len(bare) == 1 and bare.isascii() and bare.isalpha() else None


def _skip(text: str, place: int) -> int:
    found = re.compile(r"[\s*_`:]{0,12}").match(text, place)
    return place if found is None else found.end()


def _stands(text: str, found: re.Match[str], *, marked: bool) -> bool:
    """Whether the letter is a choice and no word of the sentence."""
    letter = found["letter"]
    if marked or found["close"] or set(found["open"]) & set("([{"):
        return True
    rest = text[found.end() : found.end() + 20]
    ends = rest.strip(" \t") == "" or not rest[:1].isspace() or rest.lstrip(" \t").startswith("\n")
    if ends or letter not in "AaIi":
        return True
    return letter.isupper() and _CONNECTIVE.match(text, found.end()) is not None


def _words(text: str, *, whole: bool = True) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = " ".join(folded.split()).lstrip(_DECORATION + "([{")
    return folded.rstrip(_DECORATION + ")]}.!,;") if whole else folded


def _only(letters: Iterable[str]) -> str | None:
    distinct = set(letters)
    return distinct.pop() if len(distinct) == 1 and distinct != {""} else None


ENTRY = GraderEntry(name="choice", grader=Choice)
