"""The front on a port of its own, beside gRPC in the same event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import uvicorn
from starlette.middleware import Middleware

from runtime_svc.core import InferenceCore
from runtime_svc.http_front.app import application
from runtime_svc.http_front.connection import HEAD_BYTES, Connection
from treni.doors import OPEN, Door
from treni.http_door import LockedApp, uvicorn_options
from treni.serving import join, not_bound

if TYPE_CHECKING:
    from treni.metrics import Page

KEEP_ALIVE_S = 65
"""How long a connection may be idle between two requests: longer than clients keep one, or they lose requests."""

BACKLOG = 1024


class RunningFront:
    """A front that answers at `address` ("http://host:port") until it is stopped."""

    def __init__(self, *, address: str, server: uvicorn.Server, listener: socket.socket) -> None:
        self.address = address
        self._server = server
        self._listener = listener
        self._ticking = asyncio.create_task(server.main_loop())

    async def stop(self, *, grace_s: float = 1.0) -> None:
        """Takes no more connections, and lets running requests end for `grace_s`; then they are cancelled."""
        self._server.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment]
        self._server.should_exit = True
        await self._ticking
        await self._server.shutdown([self._listener])


async def start(
    core: InferenceCore,
    metrics: Page,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    door: Door = OPEN,
) -> RunningFront:
    """A started front; port 0 picks a free one.

    Behind a `door` that asks for keys every path but health asks for one, and with its TLS it speaks HTTPS alone.
    Raises UNAVAILABLE when the address cannot be bound, INVALID_ARGUMENT (`door_open`) for one that other machines
    reach behind a door that does not allow it.
    """
    door.refuse_beyond_loopback(host)
    listener = _bound(host, port)
    # Requests that are no HTTP are refused in words, and need no line in the log each.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    middleware = [] if door.keys is None else [Middleware(LockedApp, keys=door.keys)]
    config = uvicorn.Config(
        application(core, metrics, middleware=middleware),
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
        backlog=BACKLOG,
        **uvicorn_options(door),
    )
    scheme = "http" if door.tls is None else "https"
    address = f"{scheme}://{join(host, listener.getsockname()[1])}"
    config.load()
    # Not by its `serve`, which takes the program's signals.
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    return RunningFront(address=address, server=server, listener=listener)


def _bound(host: str, port: int) -> socket.socket:
    name = host.removeprefix("[").removesuffix("]")
    try:
        family, _, _, _, place = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(place[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise not_bound(host, port, str(error)) from error
    # Connections inherit it. The event loop does not set it on those of a listener that it did not make, and without it
    # the end of an answer waits until its beginning is acknowledged: up to 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
