"""Requests, errors and durations of hops, counted at their two ends: a server's methods and a channel's calls.

What is observed is put down after the call is over, when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from treni import metrics
from treni.errors import Code, kind_in
from treni.metrics import Page, bounded_kind, exemplar
from treni.wrapped_channel import WrappedChannel

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

HOPS = {
    "treni.v1.AgentService": "agent",
    "treni.v1.InferenceService": "model",
    "treni.v1.ToolService": "tool",
}
"""The services whose calls are a hop of an arm; the others are the testbed's own."""

_CODES = {code.value[0]: code.name for code in Code}
_MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class _End:
    """One end of all hops: what its calls came to and how long they took."""

    side = ""
    seen = ""

    def __init__(self, page: Page) -> None:
        name, labels = f"rpc_{self.side}", ("hop", "arm", "profile")
        self._requests = page.counter(
            f"{name}_requests", f"Calls that are over, {self.seen}.", *labels, "code"
        )
        self._errors = page.counter(
            f"{name}_errors", f"Those that failed, {self.seen}, by kind of error.", *labels, "code", "kind"
        )
        self._seconds = page.histogram(
            f"{name}_request_seconds", f"How long calls took, {self.seen}.", *labels
        )
        self._in_flight = page.gauge(f"{name}_in_flight", f"Calls in progress, {self.seen}.", "hop")

    def begun(self, hop: str) -> None:
        """A call is in progress."""
        self._of_hop(hop).inc()

    def ended(self, hop: str, seconds: float, code: str, trailing: Any, trace: dict[str, str]) -> None:
        """A call is over, with that status and trailing metadata."""
        work = metrics.work()
        labels = (hop, work.arm(hop), work.profile)
        self._of_hop(hop).dec()
        requests, latency = self._of_work(*labels, code)
        requests.inc(1, trace)
        latency.observe(seconds, trace)
        if code != "OK":
            self._errors.labels(*labels, code, bounded_kind(kind_in(trailing) or code.lower())).inc(1, trace)

    # Finding the series by its labels takes as long as all the counting; there are few.
    @cache  # noqa: B019 - it lives as long as the process
    def _of_hop(self, hop: str) -> Gauge:
        return self._in_flight.labels(hop)

    @cache  # noqa: B019
    def _of_work(self, hop: str, arm: str, profile: str, code: str) -> tuple[Counter, Histogram]:
        return self._requests.labels(hop, arm, profile, code), self._seconds.labels(hop, arm, profile)


class ServerMetrics(_End):
    """The called end of hops."""

    side = "server"
    seen = "as the server saw them"


class ClientMetrics(_End):
    """The calling end of hops."""

    side = "client"
    seen = "as the caller saw them"


def server_interceptors() -> tuple[grpc.aio.ServerInterceptor, ...]:
    """What a server that is started now needs so that its calls are counted, to stand before all that refuses any."""
    counts = metrics.of(ServerMetrics)
    return () if counts is None else (_Counting(counts),)


def counted(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """The channel, its calls on hops counted where this process counts; as it is where not."""
    counts = metrics.of(ClientMetrics)
    return channel if counts is None else WrappedChannel(channel, partial(_counted_calls, counts))


class _Counting(grpc.aio.ServerInterceptor):
    """Counts the calls of hops, refused ones included."""

    def __init__(self, counts: ServerMetrics) -> None:
        self._counts = counts
        self._known: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler, counted."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        hop = _hop(method)
        if handler is None or hop is None:
            return handler
        known = self._known.get(method)
        if known is None or known[0] is not handler:  # a refusal is a handler of the call's own
            known = self._known[method] = (handler, self._around(handler, hop))
        return known[1]

    def _around(self, handler: Handler, hop: str) -> Handler:
        behaviour: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )

        async def call(request: Any, context: Any) -> Any:
            observed = _Observed(self._counts, hop, context)
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                observed.left = True
                raise
            finally:
                observed.over()

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            observed = _Observed(self._counts, hop, context)
            try:
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            except (asyncio.CancelledError, GeneratorExit):
                observed.left = True
                raise
            finally:
                observed.over()

        around: Handler = _MAKERS[handler.request_streaming, handler.response_streaming](
            stream if inspect.isasyncgenfunction(behaviour) else call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return around


class _Observed:
    """One call of a server, put down once gRPC is done with it: the status is on its way by then."""

    def __init__(self, counts: ServerMetrics, hop: str, context: Any) -> None:
        self._counts, self._hop, self._context = counts, hop, context
        self._started_s = self._ended_s = time.perf_counter()
        self._trace: dict[str, str] = {}
        self.left = False
        counts.begun(hop)
        task = asyncio.current_task()
        assert task is not None, "gRPC runs handlers in a task"
        task.add_done_callback(self._put_down)

    def over(self) -> None:
        """The handler is done."""
        self._ended_s, self._trace = time.perf_counter(), exemplar()

    def _put_down(self, _: asyncio.Task[Any]) -> None:
        code = _CODES.get(_number(self._context.code()), "UNKNOWN")
        if self.left and code == "OK":  # gRPC sets no status for a caller that left, or whose deadline passed
            code = "CANCELLED"
        self._counts.ended(
            self._hop,
            self._ended_s - self._started_s,
            code,
            self._context.trailing_metadata(),
            self._trace,
        )


def _counted_calls(counts: ClientMetrics, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
    hop = _hop(method)
    if hop is None:
        return call

    def counted_call(*args: Any, **kwargs: Any) -> Any:
        started_s, trace = time.perf_counter(), exemplar()
        made = call(*args, **kwargs)
        counts.begun(hop)
        made.add_done_callback(lambda done: _over(counts, hop, started_s, trace, done))
        return made

    return counted_call


def _over(counts: ClientMetrics, hop: str, started_s: float, trace: dict[str, str], done: Any) -> None:
    seconds = time.perf_counter() - started_s
    code = _at_once(done.code())
    counts.ended(
        hop,
        seconds,
        Code.UNKNOWN.name if code is None else code.name,
        _at_once(done.trailing_metadata()),
        trace,
    )


def _at_once(known: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing left to wait for, as those of a call that is over; else None."""
    try:
        known.send(None)
    except StopIteration as returned:
        return returned.value
    except (Exception, asyncio.CancelledError):  # a call that an interceptor failed has no status of its own
        return None
    known.close()
    return None


def _hop(method: str) -> str | None:
    return HOPS.get(method.strip("/").partition("/")[0])


def _number(code: Any) -> int:
    """A status as its number: gRPC keeps it as whichever it was given, and none for one that went well."""
    return int(code.value[0]) if isinstance(code, Code) else int(code or 0)
