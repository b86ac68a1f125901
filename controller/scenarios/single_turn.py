"""A single turn: one call of the model, without tools, whose text is the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from controller.ports import MODEL_HOP
from controller.run import Run
from controller.scenarios.scenario import Scenario
from treni.v1 import agent_pb2


class SingleTurn(Scenario):
    """The prompt, and what the model says to it: how question-and-answer benchmarks are asked.

    No tool is offered, whatever the request names, and markup of a call is no part of the answer.
    """

    @property
    def name(self) -> str:
        """The name that suites give it."""
        return "single_turn"

    def steps(self, tool_calls: int) -> Sequence[str]:
        """One turn. Raises `ValueError` for a task with tool calls."""
        if tool_calls:
            raise ValueError("a task without tool calls for a single turn")
        return (MODEL_HOP,)

    async def play(self, run: Run) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """The turn's text as it comes, and then the whole of it as the answer."""
        run.offered = {}
        run.ask(run.prompt)
        async with aclosing(run.turn()) as parts:
            async for part in parts:
                yield part if isinstance(part, agent_pb2.RunEvent) else run.answer(part)


SINGLE_TURN = SingleTurn()
