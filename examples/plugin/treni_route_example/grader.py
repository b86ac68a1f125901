"""A grader: an answer is right that mentions what was expected."""

from __future__ import annotations

from matrices.graders.grader import Grader, GraderEntry


class Mentions(Grader):
    """Whether the expected words stand somewhere in the answer, in the same order and letters."""

    whole: bool = False
    """Whether nothing else may stand there."""

    def is_correct(self, answer: str, *, expected: str) -> bool:
        """Whether the answer is right."""
        return answer == expected if self.whole else expected in answer


ENTRY = GraderEntry(name="mentions", grader=Mentions)
