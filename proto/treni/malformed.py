"""Requests that are no message: refused with the details that every other error of ours has."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from treni import errors

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unreadable:
    """Stands for a request whose bytes could not be read."""

    size: int
    reason: str


class MalformedRequests(grpc.aio.ServerInterceptor):
    """Answers bytes that are no message with INVALID_ARGUMENT ("request_malformed"), definitely not done.

    gRPC itself would answer UNKNOWN without details. Has to be the first interceptor: what it returns is what
    reads the bytes.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler behind a reader that never raises, where the call has one request."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        method = handler_call_details.method
        if handler.unary_unary is not None and inspect.iscoroutinefunction(handler.unary_unary):
            return grpc.unary_unary_rpc_method_handler(
                _unary(handler.unary_unary, method),
                request_deserializer=_reader(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None and inspect.isasyncgenfunction(handler.unary_stream):
            return grpc.unary_stream_rpc_method_handler(
                _stream(handler.unary_stream, method),
                request_deserializer=_reader(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        return handler


def _reader(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return _Unreadable(size=len(data), reason=str(error))

    return read


def _unary(behaviour: Any, method: str) -> Any:
    async def call(request: Any, context: Context) -> Any:
        if isinstance(request, _Unreadable):
            await _refuse(request, method, context)
        return await behaviour(request, context)

    return call


def _stream(behaviour: Any, method: str) -> Any:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        if isinstance(request, _Unreadable):
            await _refuse(request, method, context)
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return stream


async def _refuse(request: _Unreadable, method: str, context: Context) -> None:
    error = errors.invalid_argument(
        "request_malformed",
        expected=f"a request of {method} in protobuf's encoding",
        got=f"{request.size} bytes that are none ({request.reason})",
        todo="send the message that treni/v1 describes",
    )
    await errors.abort(context, error)
