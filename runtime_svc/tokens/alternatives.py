"""A regular expression for any of many words, which looks at each character once however many words there are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from os.path import commonprefix

NOTHING = r"(?!)"
"""What matches nowhere."""


def any_of(words: Iterable[str]) -> str:
    """The pattern; of several words that begin at one place the longest matches. No word may be empty."""
    tails = sorted(set(words))
    if not tails:
        return NOTHING
    by_first: defaultdict[str, list[str]] = defaultdict(list)
    for word in tails:
        by_first[word[0]].append(word)
    return "|".join(map(_branch, by_first.values()))


def _branch(words: list[str]) -> str:
    """The pattern of words that begin with the same character."""
    shared = commonprefix(words)  # noqa: RUF071  (by characters is what is wanted)
    rest = [word[len(shared) :] for word in words if word != shared]
    if not rest:
        return re.escape(shared)
    return f"{re.escape(shared)}(?:{any_of(rest)}){'?' if shared in words else ''}"
