"""grpc.aio's server, which a call to a method whose name is no UTF-8 does not end.

grpc.aio (1.85) decodes the names of methods in the loop that takes all calls, before anybody's door: one call to
"/\\xff", by whoever reaches the port, and the loop and the server with it are over. Here that loop gets calls to
methods that are served alone. All others are as unknown as each other, and are refused without a look at their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio._server import Server

_CORE = ("AioServer", "_MethodResolver", "_handle_rpc", "_schedule_rpc_coro", "get_working_loop")
_SERVER = ("_make_request_call_future", "_request_call")

UNREAD = "one that is not served"
"""What stands for the name of a method that there is not."""


def steady_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int | str]]
) -> grpc.aio.Server:
    """A server for services that are registered method by method, as the generated `add_...` do.

    With a gRPC whose inside is another than it was in 1.85, it is the one that gRPC itself makes.
    """
    if not STEADY:
        return grpc.aio.server(interceptors=interceptors, options=options)
    return cast("grpc.aio.Server", _Steady(interceptors, options))


STEADY = all(hasattr(cygrpc, name) for name in _CORE) and all(
    hasattr(cygrpc.AioServer, name) for name in _SERVER
)
"""Whether this gRPC is one that can be kept from ending so; a test holds that the one of the lock file is."""


class _Steady(Server):
    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        options: Sequence[tuple[str, int | str]],
    ) -> None:
        # In place of what the base makes, and not after it: a server of Core's that is never stopped stays for good.
        self._loop = cygrpc.get_working_loop()
        self._server = _Core(self._loop, None, (), tuple(interceptors), tuple(options), None)
        self._server.guards = tuple(interceptors)


class _Core(cygrpc.AioServer):  # type: ignore[misc]  # compiled, without types
    guards: tuple[grpc.aio.ServerInterceptor, ...] = ()

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """The next call of that method, or where there is none the end of all calls to methods that there are not."""
        if method is not None:
            call: asyncio.Future[Any] = super()._make_request_call_future(method)
            return call
        return asyncio.get_running_loop().create_task(self._refuse_unknown())

    async def _refuse_unknown(self) -> None:
        """Has every such call refused by the interceptors, until the server stops, which ends the wait by an error."""
        loop = asyncio.get_running_loop()
        nothing = cygrpc._MethodResolver([], {})
        refusing: set[asyncio.Task[None]] = set()
        while True:
            call = await self._request_call()
            handled = cygrpc._handle_rpc(UNREAD, nothing, self.guards, call, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(handled, call, loop, UNREAD))
            refusing.add(task)
            task.add_done_callback(refusing.discard)
