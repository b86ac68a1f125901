"""What stands before every method of every server: who is let in, what is read, and what goes out."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from treni import errors
from treni.errors import Code, TreniError, invalid_argument
from treni.limits import ANSWER_BYTES, CALLS_IN_FLIGHT, request_limit

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)

_MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Guard(grpc.aio.ServerInterceptor):
    """Answers in the project's own words where gRPC would answer without details, or not at all.

    A call over `CALLS_IN_FLIGHT` of its method, a request over its `request_limit`, bytes that are no message and a
    method that does not exist are refused, definitely not done. An answer over `ANSWER_BYTES` and whatever else a
    handler raises is INTERNAL, not definite. Has to be the first interceptor: it reads and writes the bytes.
    """

    def __init__(self) -> None:
        self._in_flight: Counter[str] = Counter()
        self._known: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler with the guard around it, or one that refuses."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            return _refusing(_no_method(method))
        if self._in_flight[method] >= CALLS_IN_FLIGHT.most:
            return _refusing(CALLS_IN_FLIGHT.exceeded("one more"))
        self._in_flight[method] += 1
        # gRPC runs a call, this included, in a task of its own, and may end it before the handler is asked.
        task = asyncio.current_task()
        assert task is not None, "gRPC calls interceptors in a task"
        task.add_done_callback(lambda _: self._in_flight.subtract((method,)))
        known = self._known.get(method)
        if (
            known is None or known[0] is not handler
        ):  # another interceptor may give each call a handler of its own
            known = self._known[method] = (handler, self._guarded(handler, method))
        return known[1]

    def _guarded(self, handler: Handler, method: str) -> Handler:
        streaming = (handler.request_streaming, handler.response_streaming)
        behaviour: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        read, write = _reader(handler, method), _writer(handler, method)

        def received(request: Any) -> Any:
            return _each(request, read) if handler.request_streaming else read(request)

        async def call(request: Any, context: Context) -> Any:
            try:
                sending = _Sending(context, write) if handler.response_streaming else context
                response = await behaviour(received(request), sending)
                return None if handler.response_streaming else write(response)
            except Exception as error:
                _conclude(context, error, method)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                async with aclosing(behaviour(received(request), context)) as responses:
                    async for response in responses:
                        yield write(response)
            except Exception as error:
                _conclude(context, error, method)

        guarded: Handler = _MAKERS[streaming](stream if inspect.isasyncgenfunction(behaviour) else call)
        return guarded


def _reader(handler: Handler, method: str) -> Callable[[bytes], Any]:
    limit, deserialize = request_limit(method), handler.request_deserializer

    def read(data: bytes) -> Any:
        limit.check(len(data))
        if deserialize is None:
            return data
        try:
            return deserialize(data)
        except DecodeError as error:
            raise invalid_argument(
                "request_malformed",
                expected=f"a request of {method} in protobuf's encoding",
                got=f"{len(data)} bytes that are none ({error})",
                todo="send the message that treni/v1 describes",
            ) from None

    return read


def _writer(handler: Handler, method: str) -> Callable[[Any], bytes]:
    serialize = handler.response_serializer

    def write(response: Any) -> bytes:
        data: bytes = response if serialize is None else serialize(response)
        if len(data) > ANSWER_BYTES:
            raise TreniError(
                Code.INTERNAL,
                "answer_too_large",
                expected=f"an answer of {method} of at most {ANSWER_BYTES} bytes",
                got=f"{len(data)} bytes",
                todo="ask for less; what was asked for may have been done",
            )
        return data

    return write


class _Sending:
    """A handler's context whose `write` takes messages and sends bytes."""

    def __init__(self, context: Context, write: Callable[[Any], bytes]) -> None:
        self._context = context
        self._write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, response: Any) -> None:
        await self._context.write(self._write(response))


async def _each(requests: AsyncIterator[bytes], read: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield read(request)


def _refusing(error: TreniError) -> Handler:
    """A handler for calls of any shape that does not wait for the request: what is not read takes no memory."""

    async def refuse(_: Any, context: Context) -> None:
        errors.conclude(context, error)

    handler: Handler = grpc.stream_stream_rpc_method_handler(refuse)
    return handler


def _conclude(context: Context, error: Exception, method: str) -> None:
    """Ends the call as `error` says, once the handler has returned; one that nobody foresaw is logged.

    Not by aborting it: that is an exception which gRPC keeps with the call, in a circle, and the frames that it went
    through with it. They would keep requests in memory until the garbage collector comes by, as would the frames of
    an error that somebody else still holds.
    """
    if isinstance(error, grpc.aio.AbortError):  # the handler has ended it
        raise error
    if isinstance(error, NotImplementedError):  # what the generated stubs do where a service lacks a method
        error = _no_method(method)
    if not isinstance(error, TreniError):
        _log.error("%s failed", method, exc_info=error)
        error = errors.unforeseen(error, method)
    errors.conclude(context, error)
    error.__context__ = error.__traceback__ = None


def _no_method(method: str) -> TreniError:
    return TreniError(
        Code.UNIMPLEMENTED,
        "method_unknown",
        expected="a method that is served here",
        got=method,
        todo="ask the server by reflection what it serves, or call another address",
    )
