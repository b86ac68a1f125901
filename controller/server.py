"""`AgentService`, the one contract of both routing arms, and the server of the external one."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import grpc

from controller.deadline import Deadline
from controller.loop import AgentLoop, scenario_named
from controller.metrics import RunMetrics
from controller.outbox import Outbox
from controller.policy import Policy
from controller.ports import Annotate, ModelPort, ToolPort
from controller.recorder import Recorder
from controller.run import unknown_tool
from treni import metrics, serving
from treni.doors import OPEN, Door
from treni.errors import Code, TreniError, conclude, invalid_argument, unforeseen
from treni.limits import TOOLS, USER_TURNS
from treni.v1 import agent_pb2, agent_pb2_grpc, common_pb2

_log = logging.getLogger(__name__)

SERVICE_NAME: str = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name

MAX_CONCURRENT_RUNS = 64
MAX_PROMPT_CHARS = 64 * 1024
MAX_TASK_ID_CHARS = 256

RECORD_RESERVE_S = 0.02
RECORD_RESERVE_SHARE = 0.02
"""How much sooner than its caller a run gives up, so that the record still arrives: the larger of the two, since a
loaded machine is slow at telling too, and who allows more time can spare more of it."""

# On its way a gRPC timeout is rounded up to about two digits: 1.001 s arrives as 1.01 s.
_TIMEOUT_ROUNDING = 1.01

# Printable ASCII without spaces: a run id travels as gRPC metadata.
_RUN_ID = re.compile(r"[!-~]{1,200}")


class RunServicer(agent_pb2_grpc.AgentServiceServicer):
    """Serves the runs of an agent, whatever it does in one; `arm` names it in records.

    More than `max_concurrent_runs` at once are refused with RESOURCE_EXHAUSTED.
    """

    def __init__(self, *, arm: str, policy: Policy, max_concurrent_runs: int) -> None:
        self._arm = arm
        self._policy = policy
        self._max_concurrent_runs = max_concurrent_runs
        self._running: set[str] = set()

    def events(
        self, request: agent_pb2.RunRequest, deadline: Deadline, recorder: Recorder
    ) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """The events of a run that was found valid; the answer is the last. Raises TreniError as a run ends."""
        raise NotImplementedError

    # A coroutine that writes, where the stub's type foresees a generator: gRPC leaves a generator suspended
    # when a call is cancelled, and the hop below it would go on until the garbage collector finds it.
    async def Run(  # type: ignore[override]
        self, request: agent_pb2.RunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Streams the run's events; the record is the last one whatever happens."""
        recorder = Recorder(arm=self._arm, pid=os.getpid())
        deadline = Deadline.after(self._run_timeout_s(context.time_remaining()))
        async with Outbox(context.write) as outbox:
            failure = await self._run(request, deadline, recorder, outbox)
            record = recorder.record()
            outbox.put(agent_pb2.RunEvent(record=record))
            await outbox.flush()
        self._count(record, failure)
        if failure is not None:
            conclude(context, failure)

    async def _run(
        self, request: agent_pb2.RunRequest, deadline: Deadline, recorder: Recorder, outbox: Outbox
    ) -> TreniError | None:
        """Puts every event but the record into the outbox; how the run failed, None if it did not."""
        try:
            validate(request)
            with self._slot(request.run_id):
                async with aclosing(self.events(request, deadline, recorder)) as events:
                    async for event in events:
                        outbox.put(event)
        except TreniError as error:
            return error.at("agent")
        except Exception as error:
            _log.exception("run %s failed in the agent", request.run_id)
            return unforeseen(error, "the run").at("agent")
        return None

    def _count(self, record: agent_pb2.RunRecord, failure: TreniError | None) -> None:
        """Has the run counted, where anybody wants that, once the caller has all of it."""
        counts, task = metrics.of(RunMetrics), asyncio.current_task()
        if counts is not None and task is not None:
            over = partial(counts.over, self._arm, record, failure, metrics.exemplar())
            task.add_done_callback(lambda _: over())

    def _run_timeout_s(self, remaining_s: float | None) -> float:
        """The caller's time less what it takes to tell the caller; the policy's for a caller without a deadline."""
        if remaining_s is None:
            return self._policy.run_timeout_s
        sent_s = remaining_s / _TIMEOUT_ROUNDING
        return sent_s - max(RECORD_RESERVE_S, RECORD_RESERVE_SHARE * sent_s)

    @contextmanager
    def _slot(self, run_id: str) -> Iterator[None]:
        if run_id in self._running:
            raise TreniError(
                Code.ALREADY_EXISTS,
                "run_id_in_use",
                expected="a run_id of its own for each run",
                got=f"the id of a run in progress, {run_id}",
                todo="wait for that run, or use another id",
            )
        if len(self._running) >= self._max_concurrent_runs:
            raise TreniError(
                Code.RESOURCE_EXHAUSTED,
                "too_many_runs",
                expected=f"at most {self._max_concurrent_runs} runs at once",
                got="one more",
                todo="retry after a backoff",
            )
        self._running.add(run_id)
        try:
            yield
        finally:
            self._running.discard(run_id)


class AgentServicer(RunServicer):
    """Runs tasks with the loop over the given ports; `arm` ("internal" or "external") names it in records."""

    def __init__(
        self,
        *,
        arm: str,
        model: ModelPort,
        tools: ToolPort,
        policy: Policy,
        annotate: Annotate | None = None,
        max_concurrent_runs: int = MAX_CONCURRENT_RUNS,
    ) -> None:
        super().__init__(arm=arm, policy=policy, max_concurrent_runs=max_concurrent_runs)
        self._tools = tools
        self._agent = AgentLoop(model=model, tools=tools, policy=policy, annotate=annotate)

    async def events(
        self, request: agent_pb2.RunRequest, deadline: Deadline, recorder: Recorder
    ) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        """The events of the loop; see `AgentLoop.run`."""
        offered = await self._offered(request, deadline)
        run = self._agent.run(request, offered=offered, deadline=deadline, recorder=recorder)
        async with aclosing(run) as events:
            async for event in events:
                yield event

    async def _offered(
        self, request: agent_pb2.RunRequest, deadline: Deadline
    ) -> Sequence[common_pb2.ToolSpec]:
        """The specs of the tools asked for, in that order; all there are for no names, none for `no_tools`."""
        if request.no_tools:
            return ()
        names = request.tools
        # By the run's deadline: the tool timeout is for attempts, which are retried, and this is none.
        specs = await self._tools.specs(timeout_s=deadline.remaining_s())
        if not names:
            return specs
        by_name = {spec.name: spec for spec in specs}
        for name in names:
            if name not in by_name:
                unknown = unknown_tool(name, tuple(by_name))
                raise invalid_argument(
                    "tool_unknown", expected=unknown.expected, got=unknown.got, todo=unknown.todo
                )
        return [by_name[name] for name in dict.fromkeys(names)]


def validate(request: agent_pb2.RunRequest) -> None:
    """Raises INVALID_ARGUMENT for what no run could do. The offered tools are checked where they are known."""
    scenario_named(request.scenario)
    TOOLS.check(len(request.tools))
    USER_TURNS.check(1 + len(request.follow_ups))
    sampling = request.sampling
    if _RUN_ID.fullmatch(request.run_id) is None:
        raise _invalid(
            "run_id_invalid", f"a run_id matching {_RUN_ID.pattern}", f"{len(request.run_id)} characters"
        )
    if len(request.task_id) > MAX_TASK_ID_CHARS:
        raise _invalid(
            "task_id_invalid",
            f"a task_id of at most {MAX_TASK_ID_CHARS} characters",
            f"{len(request.task_id)} characters",
        )
    for said in (request.prompt, *request.follow_ups):
        if not said or said.isspace():
            raise _invalid("prompt_empty", "something in each prompt", "an empty one")
        if len(said) > MAX_PROMPT_CHARS:
            raise _invalid(
                "prompt_too_long",
                f"a prompt of at most {MAX_PROMPT_CHARS} characters",
                f"{len(said)} characters",
            )
    if not 0 <= sampling.temperature < math.inf:
        raise _invalid("temperature_invalid", "a finite temperature of at least 0", str(sampling.temperature))
    if request.no_tools and request.tools:
        raise _invalid("tools_ambiguous", "no names of tools beside no_tools", ", ".join(request.tools)[:120])
    if not 0 <= sampling.top_p <= 1:
        raise _invalid("top_p_invalid", "a top_p from 0 to 1", str(sampling.top_p))


def _invalid(kind: str, expected: str, got: str) -> TreniError:
    return invalid_argument(kind, expected=expected, got=got)


def add_to(server: grpc.aio.Server, servicer: RunServicer) -> str:
    """Adds the agent to a server that has not started; the service's full name, for health and reflection."""
    agent_pb2_grpc.add_AgentServiceServicer_to_server(servicer, server)
    return SERVICE_NAME


async def start(
    servicer: RunServicer,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    door: Door = OPEN,
) -> serving.RunningServer:
    """A started server of the agent, with health and reflection; port 0 picks a free one.

    Raises UNAVAILABLE when the address cannot be bound, INVALID_ARGUMENT where the `door` does not allow it.
    """
    return await serving.start(
        [lambda server: add_to(server, servicer)],
        host=host,
        port=port,
        interceptors=interceptors,
        door=door,
    )
