"""What a scenario is: what an agent does with what a user says, and which calls that takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence

from controller.run import Run
from treni.v1 import agent_pb2


class Scenario(ABC):
    """One way for an agent to go about what a user says: the task's prompt, and whatever the user says after an answer.

    It holds nothing of a run: one serves all of them, in both arms.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that suites and requests give it."""

    @abstractmethod
    def steps(self, tool_calls: int) -> Sequence[str]:
        """The hops ("model" or "tool") that a user turn calls on, in order, if that many tool calls are right.

        The plan is made of them: they are the calls of a run in which the model does what the task's author expects
        and nothing fails. The n-th "tool" is the turn's n-th call. Raises `ValueError` that says what is expected of a
        task, for one that this scenario is not made for.
        """

    @abstractmethod
    def play(self, run: Run) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """The events of the user turn `run.prompt` as they happen; the answer is the last.

        The conversation so far is there already. Raises TreniError, as `Run` does.
        """
