"""Word for word: the expected text and nothing else."""

from __future__ import annotations

import unicodedata

from matrices.graders.grader import Grader, GraderEntry


class Exact(Grader):
    """Compares words letter by letter, in Unicode's normal form C, apart from white space at the ends."""

    def is_correct(self, answer: str, *, expected: str) -> bool:
        """Whether both are the same letters, however their accents are encoded."""
        return _letters(answer) == _letters(expected)


def _letters(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


ENTRY = GraderEntry(name="exact", grader=Exact)
