"""Words as people compare them: however they are encoded, in whichever case, with the marks on their letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from treni.folding import fold

_JOINERS = frozenset("\u200c\u200d")
"""They stand within words of Persian or Hindi, and hold an emoji of several people together."""

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u2060\ufeff"))
"""Soft hyphens and word joiners are no part of a word, and do not end one."""

_EMOJI_SKINS = frozenset(map(chr, range(0x1F3FB, 0x1F400)))


def words(text: str) -> list[str]:
    """The words of the text, folded: runs of letters and digits with their marks, and each emoji."""
    return [word.rstrip("\u200c\u200d") for word in _runs(fold(text).translate(_INVISIBLE))]


def _runs(text: str) -> Iterator[str]:
    word = ""
    of_letters = False
    for character in text:
        letter = character.isalnum()
        if letter or unicodedata.category(character) == "So":
            if (word and letter != of_letters) or (word and not letter and not _goes_on(word, character)):
                yield word
                word = ""
            word += character
            of_letters = letter
        elif word and (character in _JOINERS or character in _EMOJI_SKINS or _is_mark(character)):
            word += character
        elif word:
            yield word
            word = ""
    if word:
        yield word


def _goes_on(word: str, emoji: str) -> bool:
    """Whether an emoji is one with those before it: tied to them, or the second half of a flag."""
    flag = len(word) == 1 and _is_indicator(word) and _is_indicator(emoji)
    return flag or word[-1] == "\u200d"


def _is_indicator(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")
