"""The tool loop: ask the model, run the tools that it asks for, give it the results, until it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from controller.ports import MODEL_HOP, TOOL_HOP
from controller.run import Run
from controller.scenarios.scenario import Scenario
from treni.v1 import agent_pb2


class ToolLoop(Scenario):
    """Turns of the model with the offered tools, each followed by the calls that it wrote, until one has no call."""

    @property
    def name(self) -> str:
        """The name that suites give it."""
        return "tool_loop"

    def steps(self, tool_calls: int) -> Sequence[str]:
        """A turn for each call, the call after it, and a turn that answers."""
        return (*(MODEL_HOP, TOOL_HOP) * tool_calls, MODEL_HOP)

    async def play(self, run: Run) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """Everything up to and including the answer."""
        run.ask(run.prompt)
        while True:
            async with aclosing(run.turn()) as parts:
                async for part in parts:
                    if isinstance(part, agent_pb2.RunEvent):
                        yield part
                    else:
                        finish = part
            if finish.malformed_tool_call:
                yield run.reject(finish)
                continue
            if not finish.tool_calls:
                yield run.answer(finish)
                return
            run.repeat(finish)
            for call in finish.tool_calls:
                yield agent_pb2.RunEvent(tool_call=call)
                yield await run.use_tool(call)


TOOL_LOOP = ToolLoop()
