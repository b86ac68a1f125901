"""What a grader is: options that a suite gives, and a judgement of an answer by them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Grader(BaseModel, ABC):
    """A way to judge answers; its fields are the options that a task may give it, validated when a suite is read.

    A judgement is a pure function of answer and expected answer: the checker judges every answer again. It takes any
    text, raises nothing, and takes time in proportion to the text's length.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @abstractmethod
    def is_correct(self, answer: str, *, expected: str) -> bool:
        """Whether `answer` is as right as `expected`, an expected answer that `refuse` let pass."""

    def refuse(self, expected: str) -> None:
        """Raises `ValueError`, saying what was expected, for an expected answer that cannot be compared with.

        Every other expected answer is correct when it is given as the answer.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class GraderEntry:
    """What each grader's file ends in: the name that suites give it, and its class.

    Raises `TypeError` for a class that is not derived from `Grader`.
    """

    name: str
    grader: type[Grader]

    def __post_init__(self) -> None:
        if not isinstance(self.grader, type) or not issubclass(self.grader, Grader):
            raise TypeError(f"a class derived from Grader is expected for {self.name}, got {self.grader!r}")
