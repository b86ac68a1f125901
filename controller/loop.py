"""The agent, written once for both routing arms: it plays the scenario that a request asks for."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from controller.attempts import Hops
from controller.deadline import Deadline
from controller.policy import Policy
from controller.ports import Annotate, ModelPort, ToolPort
from controller.recorder import Recorder
from controller.run import Run, clip
from controller.scenarios import DEFAULT, SCENARIOS
from controller.scenarios.scenario import Scenario
from treni.errors import TreniError, invalid_argument
from treni.folding import nfc
from treni.v1 import agent_pb2, common_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentLoop:
    """An agent over a model and a tool port under a policy. It holds nothing of a run: one serves all of them."""

    model: ModelPort
    tools: ToolPort
    policy: Policy
    annotate: Annotate | None = None

    async def run(
        self,
        request: agent_pb2.RunRequest,
        *,
        offered: Sequence[common_pb2.ToolSpec],
        deadline: Deadline,
        recorder: Recorder,
    ) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """Yields the run's events as they happen: for all that the user says, the last of each is its answer.

        Every user turn is played by the scenario, in one conversation. What it took is in `recorder`.
        Raises TreniError, as `Run` says; it is definite only if also no tool with side effects may have run before.
        """
        hops = Hops(
            run_id=request.run_id,
            request_index=request.request_index,
            policy=self.policy,
            deadline=deadline,
            recorder=recorder,
            annotate=self.annotate,
        )
        run = Run(
            model=self.model,
            tools=self.tools,
            policy=self.policy,
            request=request,
            offered={nfc(spec.name): spec for spec in offered},
            hops=hops,
        )
        scenario, several = scenario_named(request.scenario), bool(request.follow_ups)
        try:
            for prompt in (request.prompt, *request.follow_ups):
                run.hear(prompt)
                if several:
                    recorder.hears()
                async with aclosing(scenario.play(run)) as events:
                    async for event in events:
                        if several and event.HasField("answer"):
                            recorder.answers()
                        yield event
        except TreniError as error:
            error.definite = error.definite and not run.may_have_effects
            raise


@functools.cache
def scenario_named(name: str) -> Scenario:
    """The scenario of that name, the default one for "", looked up once: a request waits for it.

    Raises INVALID_ARGUMENT for one that is not there, FAILED_PRECONDITION for a package's that cannot be used.
    """
    try:
        return SCENARIOS[name or DEFAULT]
    except KeyError:
        raise invalid_argument(
            "scenario_unknown",
            expected=f"a scenario among {', '.join(SCENARIOS)}",
            got=f'"{clip(name)}"',
            todo="choose one of them, or install the package that adds it in this process, too",
        ) from None
