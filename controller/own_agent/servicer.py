"""The user's own agent as an `AgentService`: the harness talks to it as to any other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from controller.attempts import Attempt, Hops
from controller.deadline import Deadline
from controller.endpoint.failures import cut, malformed
from controller.outbox import text_event
from controller.own_agent.wire import (
    MAX_TEXT_CHARS,
    Exchange,
    Given,
    OwnAgent,
    Said,
    failed,
    tool_uses,
    usage_of,
)
from controller.policy import Policy
from controller.ports import AGENT_HOP, AttemptKey
from controller.recorder import Recorder
from controller.server import MAX_CONCURRENT_RUNS, RunServicer
from treni.spans import call_spans
from treni.v1 import agent_pb2


class OwnAgentServicer(RunServicer):
    """Gives each run's task to `agent`, each user turn once, and tells what it says; `arm` names it in records.

    What an agent tells of its calls, tokens and model is recorded as it is told. Its own time is one attempt on the
    hop "agent" for each user turn.
    """

    def __init__(
        self,
        *,
        arm: str,
        agent: OwnAgent,
        policy: Policy,
        seed: int = 0,
        max_concurrent_runs: int = MAX_CONCURRENT_RUNS,
    ) -> None:
        super().__init__(arm=arm, policy=policy, max_concurrent_runs=max_concurrent_runs)
        self._agent = agent
        self._seed = seed

    async def events(
        self, request: agent_pb2.RunRequest, deadline: Deadline, recorder: Recorder
    ) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """The agent's text as it comes, and its answer, for each user turn.

        Raises TreniError as `OwnAgent.run`, and its own error.
        """
        hops = Hops(
            run_id=request.run_id,
            request_index=request.request_index,
            policy=self._policy,
            deadline=deadline,
            recorder=recorder,
            annotate=None,
        )
        several, earlier = bool(request.follow_ups), list[Exchange]()
        for _ in (request.prompt, *request.follow_ups):
            given = Given(request=request, seed=self._seed, deadline=deadline, earlier=tuple(earlier))
            if several:
                recorder.hears()
            async with aclosing(self._turn(given, hops)) as events:
                async for event in events:
                    if event.HasField("answer"):
                        earlier.append(Exchange(prompt=given.prompt, answer=event.answer.text))
                        if several:
                            recorder.answers()
                    yield event

    async def _turn(self, given: Given, hops: Hops) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """One user turn: the agent is asked once."""
        recorder = hops.recorder
        key = AttemptKey(
            hop=AGENT_HOP,
            run_id=hops.run_id,
            request_index=hops.request_index,
            call_index=len(given.earlier),
            attempt=0,
        )
        attempt = Attempt(hops, key, agent_pb2.Attempt(), call_spans(hop=AGENT_HOP))
        last: Said | None = None
        shown = 0
        with attempt:
            async with aclosing(self._agent.run(given)) as things:
                while True:
                    with recorder.hop_wait:
                        said = await anext(things, None)
                    if said is None:
                        raise cut(hop=AGENT_HOP)
                    if said.ends:
                        last = said
                        break
                    text = said.text or ""
                    shown += len(text)
                    if shown > MAX_TEXT_CHARS:
                        raise malformed(
                            f"an answer of at most {MAX_TEXT_CHARS} characters", "more", hop=AGENT_HOP
                        )
                    yield text_event(text)
            recorder.told(uses=tool_uses(last.calls), usage=usage_of(last.usage), model=last.model)
            if last.error is not None:
                raise failed(last.error)
        if attempt.error is not None:
            raise attempt.error
        assert last is not None
        assert last.answer is not None
        if not shown:
            yield text_event(last.answer)
        yield agent_pb2.RunEvent(answer=agent_pb2.Answer(text=last.answer))
