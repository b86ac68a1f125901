"""What is traced, by OpenTelemetry's names where it has any: GenAI, RPC and HTTP conventions; else `treni.*`.

What takes a tracer is for where somebody traces; the rest asks for one itself, and does nothing without.
"""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, TypeVar

import grpc

from treni import metadata
from treni.tracing import OFF, Attributes, Span, Tracer, Value, Working, tracer
from treni.v1 import agent_pb2, common_pb2, inference_pb2

T = TypeVar("T")
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

INVOKE = "invoke_agent"
CHAT = "chat"
EXECUTE = "execute_tool"
ATTEMPT = "attempt"
BACKOFF = "backoff"
ENGINE = "engine"
STAGE = "engine."
TOOL = "tool"
"""Names of spans, or how they begin. A stage's is `engine.` and its field of `EngineTimings` without the unit."""

OPERATION = "gen_ai.operation.name"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
TOOL_NAME = "gen_ai.tool.name"
RUN_ID = "treni.run_id"
HOP = "treni.hop"
OUTCOME = "treni.outcome"
FAULT_ID = "treni.fault.id"
ATTEMPT_NUMBER = "treni.attempt"
CONNECTION = "treni.connection"

TRACED_METHODS = frozenset(
    {
        "/treni.v1.AgentService/Run",
        "/treni.v1.InferenceService/Generate",
        "/treni.v1.InferenceService/Embed",
        "/treni.v1.ToolService/Call",
        "/treni.v1.ToolService/List",
    }
)
"""Whose calls have a span where they are served. What asks a service how it is has none."""

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_OPERATION_OF = {"model": CHAT, "tool": EXECUTE, "agent": INVOKE}


def invocation(tracer: Tracer, request: agent_pb2.RunRequest, fault_id: str) -> Working:
    """The client's view of a run, whose record `invoked` takes from."""
    attributes: dict[str, Value] = {
        OPERATION: INVOKE,
        CONVERSATION: request.run_id,
        RUN_ID: request.run_id,
        "treni.task_id": request.task_id,
        "treni.request_index": request.request_index,
    }
    if fault_id:
        attributes[FAULT_ID] = fault_id
    return Working(tracer, tracer.start(INVOKE, attributes, kind="client"))


def invoked(span: Span, *, arm: str, outcome: str, kind: str, said: str, fault_id: str) -> None:
    """Says what the run came to; `kind` is "" for one without an error."""
    if arm:
        span.rename(f"{INVOKE} {arm}")
        span.set({AGENT_NAME: arm})
    span.set({OUTCOME: outcome} | ({FAULT_ID: fault_id} if fault_id else {}))
    if kind:
        span.fail(kind, said)


class CallSpans:
    """The spans of one call of the loop on a hop: the call as a whole, each of its attempts, each wait in between."""

    __slots__ = ("_hop", "_over", "_span", "_tracer")

    def __init__(self, tracer: Tracer, *, hop: str, name: str, call_index: int) -> None:
        operation = _OPERATION_OF[hop]
        attributes: dict[str, Value] = {OPERATION: operation, HOP: hop, "treni.call_index": call_index}
        if hop == "tool":
            attributes |= {TOOL_NAME: name, "gen_ai.tool.type": "function"}
        self._tracer = tracer
        self._hop = hop
        self._over = False
        self._span = tracer.start(f"{operation} {name}" if name else operation, attributes)

    def attempt(self, number: int, fault_id: str) -> Working:
        """The context of an attempt; what it calls is told of it."""
        attributes: dict[str, Value] = {HOP: self._hop, ATTEMPT_NUMBER: number}
        if fault_id:
            attributes[FAULT_ID] = fault_id
        span = self._tracer.start(f"{ATTEMPT} {self._hop}", attributes, kind="client", parent=self._span)
        return Working(self._tracer, span)

    def backoff(self, wait_s: float, attempt: int) -> Working:
        """The context of the wait before an attempt."""
        self._span.event("retry", {ATTEMPT_NUMBER: attempt, "treni.backoff_s": wait_s})
        return Working(self._tracer, self._tracer.start(BACKOFF, {HOP: self._hop}, parent=self._span))

    def generated(self, finish: inference_pb2.GenerateFinish) -> None:
        """Says what the model answered."""
        self._span.set(_answered(finish))

    def over(self, error: BaseException | None, attempts: int) -> None:
        """Ends the call: it worked, or failed for good. Only the first word counts."""
        if self._over:
            return
        self._over = True
        self._span.set({"treni.attempts": attempts})
        if error is not None:
            self._span.fail(getattr(error, "kind", type(error).__name__), str(error))
        self._span.end()


def call_spans(*, hop: str, name: str = "", call_index: int = 0) -> CallSpans | None:
    """The spans of a call that begins now; None where nobody traces."""
    by = tracer()
    return None if by is None else CallSpans(by, hop=hop, name=name, call_index=call_index)


def attempted(span: Span, *, outcome: str, connection: str) -> None:
    """Says how an attempt ended, and what it went out on."""
    span.set({OUTCOME: outcome, CONNECTION: connection})


def generation(finish: inference_pb2.GenerateFinish, *, arrived_s: float, spent: Mapping[str, float]) -> None:
    """A span for the engine's work on a request, and one for each of the stages in it, with the seconds `spent` there.

    A stage comes and goes many times, a step at a time. Its span has the sum of its times, and they are put one after
    the other, in that order, from the arrival on.
    """
    by = tracer()
    assert by is not None
    timings = finish.timings
    engine = by.start(
        ENGINE,
        _answered(finish) | {"treni.backend": finish.backend, "treni.device": finish.device},
        start_s=arrived_s,
    )
    engine.event("first_token", {}, at_s=arrived_s + timings.first_token_s)
    at_s = arrived_s
    for stage, seconds in spent.items():
        if seconds > 0:
            span = by.start(f"{STAGE}{stage.removesuffix('_s')}", {}, parent=engine, start_s=at_s)
            at_s += seconds
            span.end(at_s=at_s)
    engine.end(at_s=arrived_s + timings.total_s)


def tool(name: str) -> AbstractContextManager[object]:
    """The context of a tool's own work."""
    by = tracer()
    return OFF if by is None else Working(by, by.start(f"{TOOL} {name}", {TOOL_NAME: name}))


def carried(work: Callable[..., T]) -> Callable[..., T]:
    """The work, which a thread is to do, told what it is part of."""
    if tracer() is None:
        return work
    context = contextvars.copy_context()
    return lambda *arguments: context.run(work, *arguments)


class TracedCalls(grpc.aio.ServerInterceptor):
    """Gives each call of `TRACED_METHODS` a span that begins with it, and ends when it has been answered."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler as it is: it runs in the same task, in which the span is now the current one."""
        method = handler_call_details.method
        if method in TRACED_METHODS:
            pairs = tuple(handler_call_details.invocation_metadata or ())
            span = self._tracer.receive(method.removeprefix("/"), _called(method, pairs), pairs)
            self._tracer.enter(span)
            task = asyncio.current_task()
            assert task is not None, "gRPC calls interceptors in a task"
            task.add_done_callback(lambda _: span.end())
        return await continuation(handler_call_details)


def interceptors() -> tuple[grpc.aio.ServerInterceptor, ...]:
    """What a server of this process has before it; nothing where nobody traces."""
    by = tracer()
    return () if by is None else (TracedCalls(by),)


def _called(method: str, pairs: Iterable[tuple[str, str | bytes]]) -> Attributes:
    attributes: dict[str, Value] = {"rpc.system.name": "grpc", "rpc.method": method.removeprefix("/")}
    for key, value in pairs:
        if key == metadata.RUN_ID and isinstance(value, str):
            attributes[RUN_ID] = value
        elif key == metadata.ATTEMPT and isinstance(value, str) and _NUMBER.fullmatch(value):
            attributes[ATTEMPT_NUMBER] = int(value)
    return attributes


def _answered(finish: inference_pb2.GenerateFinish) -> dict[str, Value]:
    usage: common_pb2.Usage = finish.usage
    return {
        "gen_ai.response.model": finish.model,
        "gen_ai.response.finish_reasons": [finish.reason],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_prompt_tokens,
    }
