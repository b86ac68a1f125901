"""Fencing: a caller says which session of a testbed it means, and a server of another one refuses it, nothing done."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc

from treni import errors, metadata
from treni.errors import Code, TreniError

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_log = logging.getLogger(__name__)

STALE = "stale_epoch"
"""The kind of the refusal. It is definite, and worth a retry: the next attempt may reach the server that is meant."""

_OF_GRPC = "/grpc."
"""How the methods begin that say whether a server is there and what it has; they do nothing, and ask for no mark."""


def pairs(mark: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call to a server with that mark; none for "", which means whoever answers."""
    return ((metadata.FENCE, mark),) if mark else ()


def fenced(mark: str) -> tuple[grpc.aio.ServerInterceptor, ...]:
    """The interceptors, to be the first ones, of a server with that mark; none for "", which takes every call."""
    return (Fence(mark),) if mark else ()


def stale(expected: str, got: str) -> TreniError:
    """The refusal of what was meant for another server than this one, or comes from one that was superseded."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        STALE,
        expected=expected,
        got=got,
        todo="find the server that took over; nothing was done here",
        definite=True,
    )


class Fence(grpc.aio.ServerInterceptor):
    """Lets those calls through that carry the server's mark.

    A call with another mark, or with none, is refused before its handler is known to anybody else: whether the server
    was superseded and its caller is newer, or the caller was.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's handler, or one that refuses."""
        method = handler_call_details.method
        if method.startswith(_OF_GRPC):
            return await continuation(handler_call_details)
        given = _mark_in(handler_call_details.invocation_metadata or ())
        if given == self._mark:
            return await continuation(handler_call_details)
        got = f"session {given}" if given else "no session"
        return _refusing(stale(f"a call of {method} for this server's session, {self._mark}", got))


def _mark_in(given: Sequence[tuple[str, str | bytes]]) -> str:
    """The mark of a call, "" where it has none."""
    return next((str(value) for key, value in given if key == metadata.FENCE), "")


def _refusing(error: TreniError) -> Handler:
    """A handler for calls of any shape that does not wait for the request."""

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        _log.warning("refused: %s", error)
        errors.conclude(context, error)

    handler: Handler = grpc.stream_stream_rpc_method_handler(refuse)
    return handler
