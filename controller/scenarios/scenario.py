"""What a scenario is: what an agent does with a task, and which calls that takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence

from controller.run import Run
from treni.v1 import agent_pb2


class Scenario(ABC):
    """One way for an agent to go about a task. It holds nothing of a run: one serves all of them, in both arms."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that suites and requests give it."""

    @abstractmethod
    def steps(self, tool_calls: int) -> Sequence[str]:
        """The hops ("model" or "tool") that a run calls on, in order, for a task with that many tool calls.

        The plan is made of them: they are the calls of a run in which the model does what the task's author expects
        and nothing fails. The n-th "tool" is the task's n-th call. Raises `ValueError` that says what is expected of a
        task, for one that this scenario is not made for.
        """

    @abstractmethod
    def play(self, run: Run) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """The events of the run as they happen; the answer is the last. Raises TreniError, as `Run` does."""
