"""The harness's client: one task in, everything that happened out. It knows an arm only by its address."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import grpc
from google.protobuf.json_format import MessageToDict

from treni import metadata, spans, tracing
from treni.balance import chosen
from treni.channels import open_channel
from treni.errors import TreniError, from_rpc_error
from treni.fence import pairs
from treni.limits import AGENT_REQUEST
from treni.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from matrices.spec.suites import Task  # not for a worker, which would wait for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The answer to one user turn, and the time until the user had it, in seconds since the request."""

    text: str
    latency_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """What one request came to, as its user saw it.

    `latency_s` is the time until the user had an outcome, answer or error; `ttft_s` the time to the first text
    of an answer, None when there was none. `replies` are the answers that came, one for each user turn of a request
    that went well. `outcome` is "ok", "fail" (the work definitely did not happen) or "unknown". `record` is the arm's
    RunRecord as a dict, None when the arm died before it could send one.
    """

    outcome: Literal["ok", "fail", "unknown"]
    latency_s: float
    ttft_s: float | None
    replies: tuple[Reply, ...]
    error: TreniError | None
    record: dict[str, Any] | None


Watch = Callable[[agent_pb2.RunEvent], None]
"""Who is told of every event of a run as it arrives."""


class AgentClient:
    """A channel to one AgentService: one of its own to the address, or the one that it is given.

    Its calls are for the service of the session `fence`, "" for whichever answers.
    """

    def __init__(self, address: str, channel: grpc.aio.Channel | None = None, *, fence: str = "") -> None:
        self._fence = pairs(fence)
        self._channel = open_channel(address) if channel is None else channel
        self._stub = agent_pb2_grpc.AgentServiceStub(self._channel)

    async def run(
        self,
        request: agent_pb2.RunRequest,
        *,
        timeout_s: float,
        marks: Mapping[str, str] | None = None,
        watch: Watch | None = None,
    ) -> Invocation:
        """Runs the task, its call marked with that metadata; never raises for what the service or the network did."""
        by = tracing.tracer()
        if by is None:
            return await self._run(request, timeout_s, marks, watch)
        fault_id = metadata.fault_id_of((marks or {}).get(metadata.FAULT, ""))
        with spans.invocation(by, request, fault_id) as span:
            done = await self._run(request, timeout_s, marks, watch)
            spans.invoked(
                span,
                arm="" if done.record is None else done.record["arm"],
                outcome=done.outcome,
                kind="" if done.error is None else done.error.kind,
                said=str(done.error or ""),
                fault_id="" if done.error is None else done.error.fault_id,
            )
            return done

    async def _run(
        self,
        request: agent_pb2.RunRequest,
        timeout_s: float,
        marks: Mapping[str, str] | None,
        watch: Watch | None,
    ) -> Invocation:
        started = time.perf_counter()
        ttft_s: float | None = None
        replies: list[Reply] = []
        record: dict[str, Any] | None = None
        error: TreniError | None = None
        try:
            AGENT_REQUEST.check(request.ByteSize())
            async for event in self._stub.Run(
                request, timeout=timeout_s, metadata=(*self._fence, *(marks or {}).items())
            ):
                kind = event.WhichOneof("event")
                if kind == "text" and ttft_s is None:
                    ttft_s = time.perf_counter() - started
                elif kind == "answer":
                    replies.append(Reply(text=event.answer.text, latency_s=time.perf_counter() - started))
                elif kind == "record":
                    record = message_dict(event.record)
                if watch is not None:
                    watch(event)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc_error(failure, hop="agent")
        except TreniError as refusal:
            error = refusal.at("agent")
        latency_s = time.perf_counter() - started
        turns = 1 + len(request.follow_ups)
        if error is None and (len(replies) != turns or record is None):
            error = TreniError(
                grpc.StatusCode.INTERNAL,
                "stream_incomplete",
                expected=f"{turns} answers and a record before the stream ends",
                got=f"{len(replies)} answers, record: {record is not None}",
                todo="report this as a bug of the arm",
                hop="agent",
            )
        return Invocation(
            outcome="ok" if error is None else "fail" if error.definite else "unknown",
            latency_s=latency_s,
            ttft_s=ttft_s,
            replies=tuple(replies),
            error=error,
            record=record,
        )

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


def request_of(task: Task, *, run_id: str, request_index: int) -> agent_pb2.RunRequest:
    """The request that runs a task, all that its user says in it."""
    return agent_pb2.RunRequest(
        run_id=run_id,
        task_id=task.id,
        prompt=task.prompt,
        follow_ups=[turn.prompt for turn in task.follow_ups],
        tools=task.tools,
        no_tools=not task.tools,
        scenario=task.scenario,
        request_index=request_index,
    )


class Client(Protocol):
    """Whoever sends requests to one agent."""

    async def run(
        self, request: agent_pb2.RunRequest, *, timeout_s: float, marks: Mapping[str, str] | None = None
    ) -> Invocation:
        """Runs the task; what it came to."""
        ...

    async def close(self) -> None:
        """Closes what it opened."""
        ...


class AgentClients:
    """The agents of one arm, alike, as one: a request goes to the one that its index chooses.

    `clients` are those of one process after those of the other, for each of the `workers` that share the requests.
    """

    def __init__(self, clients: Sequence[Client], *, workers: int = 1) -> None:
        self.every = tuple(clients)
        self._agents = len(clients) // workers
        self._workers = workers

    async def run(
        self, request: agent_pb2.RunRequest, *, timeout_s: float, marks: Mapping[str, str] | None = None
    ) -> Invocation:
        """Runs the task at its agent; see `AgentClient.run`."""
        agent = chosen(request.request_index, self._agents)
        worker = chosen(request.request_index // self._agents, self._workers)
        client = self.every[worker * self._agents + agent]
        return await client.run(request, timeout_s=timeout_s, marks=marks)

    async def close(self) -> None:
        """Closes the channels."""
        for client in self.every:
            await client.close()


def message_dict(message: Any) -> dict[str, Any]:
    """A protobuf message as the history keeps it: field names as in the .proto, defaults written out."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
