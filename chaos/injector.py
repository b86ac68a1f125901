"""Faults delivered where the tool is: a gRPC server interceptor, and the same around an in-process tool port.

The interceptor delivers two sorts: refusals of site "hop", which come before the handler and so are exact at any
concurrency, and everything of site "tool". The in-process wrapper delivers site "tool" to the internal arm, which
has no tool hop. What lanes deliver (a hop's stalls, resets and so on) passes through here untouched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import grpc

from chaos.deliveries import DeliveryLog
from chaos.faults import CallUnderFault, Fault, Hop, decode, fault_of
from treni import errors, metadata
from treni.errors import Code, TreniError
from treni.v1.common_pb2 import ToolSpec
from treni.v1.tools_pb2 import CallToolRequest, CallToolResponse

MAX_STALL_S = 600.0
"""How long a stall holds a caller that has no deadline."""

T = TypeVar("T")
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


async def apply(fault: Fault, run: Callable[[], Awaitable[T]], *, max_stall_s: float = MAX_STALL_S) -> T:
    """The tool's answer under `fault`, whose kind refuses, holds, delays, or harms the host.

    What is held ends when this task is cancelled, as it is once the caller gives up, or after `max_stall_s`. Raises
    `TreniError` with the fault's id.
    """
    call = CallUnderFault(
        run=run,
        error=lambda code, definite: injected(fault, code, definite=definite),
        max_stall_s=max_stall_s,
    )
    answer: T = await fault.kind.at_tool(call)
    return answer


class FaultInjector(grpc.aio.ServerInterceptor):
    """The server side, for a server of `hop` whose handlers are coroutine functions or async generators.

    A call whose fault metadata is broken is refused with INVALID_ARGUMENT. On streams only a hop's refusals act: a
    tool, which site "tool" means, is unary.
    """

    def __init__(self, hop: Hop, deliveries: DeliveryLog, *, max_stall_s: float = MAX_STALL_S) -> None:
        self._hop = hop
        self._deliveries = deliveries
        self._max_stall_s = max_stall_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler, behind the fault in the call's metadata where this layer is to deliver it."""
        handler = await continuation(handler_call_details)
        pairs = dict(handler_call_details.invocation_metadata or ())
        if handler is None or metadata.FAULT not in pairs:
            return handler
        try:
            fault = decode(pairs[metadata.FAULT])
        except TreniError as error:
            return _refusing(handler, error)
        how = fault.how(in_process=False)
        if fault.hop != self._hop or how != "injector":
            return handler
        if fault.refusal is None and handler.unary_unary is None:
            return handler
        try:
            self._deliveries.append_for(fault, how, pairs)
        except TreniError as error:
            return _refusing(handler, error)
        if fault.refusal is not None:
            return _refusing(handler, injected(fault, fault.refusal.code, definite=True))
        return self._faulty(handler, fault)

    def _faulty(self, handler: Handler, fault: Fault) -> Handler:
        behaviour: Any = handler.unary_unary

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            held = _HeldContext(context)
            try:
                return await apply(fault, lambda: behaviour(request, held), max_stall_s=self._max_stall_s)
            except _Aborted as aborted:
                await context.abort_with_status(aborted.status)
            except TreniError as error:
                await errors.abort(context, error)

        return _unary(handler, call)


class _Aborted(Exception):
    """A handler ended its call with `status`, which the caller has not been sent yet."""

    def __init__(self, status: Any) -> None:
        super().__init__(status)
        self.status = status


class _HeldContext:
    """A handler's context whose `abort_with_status` raises `_Aborted`, so that a refusal can be late or lost too."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort_with_status(self, status: Any) -> NoReturn:
        raise _Aborted(status)


class CallDeadline(Protocol):
    """The time by which an attempt must have ended."""

    def remaining_s(self) -> float:
        """Seconds left, at least 0."""
        ...


class ToolCall(Protocol):
    """The context of one tool call: what the attempt's metadata says, and when it must have ended."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The attempt's extra metadata."""
        ...

    @property
    def deadline(self) -> CallDeadline:
        """The attempt's deadline."""
        ...


C = TypeVar("C", bound=ToolCall, contravariant=True)


class ToolPort(Protocol[C]):
    """Where tools run."""

    async def specs(self, *, timeout_s: float) -> Sequence[ToolSpec]:
        """Every tool there is."""
        ...

    async def call(self, request: CallToolRequest, call: C) -> CallToolResponse:
        """Runs one tool."""
        ...


class FaultyTools(ToolPort[C]):
    """A tool port with the faults of site "tool" in front of it, for tools in the loop's own process."""

    def __init__(self, tools: ToolPort[C], deliveries: DeliveryLog) -> None:
        self._tools = tools
        self._deliveries = deliveries

    async def specs(self, *, timeout_s: float) -> Sequence[ToolSpec]:
        """The inner port's tools."""
        return await self._tools.specs(timeout_s=timeout_s)

    async def call(self, request: CallToolRequest, call: C) -> CallToolResponse:
        """Runs one tool under the attempt's fault; a stall ends at the attempt's deadline."""
        fault = fault_of(call.metadata)
        if fault is None or fault.site != "tool":
            return await self._tools.call(request, call)
        self._deliveries.append(
            fault, fault.how(in_process=True), run_id=request.run_id, attempt=request.attempt
        )
        try:
            async with asyncio.timeout(call.deadline.remaining_s()):
                return await apply(fault, lambda: self._tools.call(request, call))
        except TimeoutError:
            raise injected(fault, Code.DEADLINE_EXCEEDED, definite=False) from None


def _refusing(handler: Handler, error: TreniError) -> Handler:
    async def refuse(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
        await errors.abort(context, error)

    if handler.unary_unary is not None:
        return _unary(handler, refuse)
    make: Any = {
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    refusing: Handler = make(refuse, handler.request_deserializer, handler.response_serializer)
    return refusing


def _unary(handler: Handler, behaviour: Any) -> Handler:
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def injected(fault: Fault, code: Code, *, definite: bool) -> TreniError:
    """What a caller sees of the fault, with that status."""
    return TreniError(
        code,
        f"injected_{fault.kind.name}",
        expected=f"the {fault.hop} to answer",
        got=f"the scheduled fault {fault.id}",
        todo="none: this failure was asked for",
        definite=definite,
        hop=fault.hop,
        fault_id=fault.id,
    )
