"""An ASGI application on a port of its own, in the event loop of whoever starts it, whose signals it leaves alone."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import uvicorn

from treni.doors import OPEN, Door
from treni.http_door import App, uvicorn_options
from treni.serving import join, not_bound

BACKLOG = 1024


class RunningHttp:
    """A server that answers at `address` ("http://host:port") until it is stopped."""

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


async def start(app: App, *, host: str, port: int, door: Door = OPEN, **options: Any) -> RunningHttp:
    """A started server of the application; port 0 picks a free one, `options` are further ones of `uvicorn.Config`.

    It speaks HTTPS alone where the `door` has TLS. Raises UNAVAILABLE when the address cannot be bound,
    INVALID_ARGUMENT (`door_open`) for one that other machines reach behind a door that does not allow it.
    """
    door.refuse_beyond_loopback(host)
    listener = _bound(host, port)
    # Requests that are no HTTP are refused in words, and need no line in the log each.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        **options,
        **uvicorn_options(door),
    )
    scheme = "http" if door.tls is None else "https"
    address = f"{scheme}://{join(host, listener.getsockname()[1])}"
    config.load()
    # Not by its `serve`, which takes the program's signals.
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    return RunningHttp(address=address, server=server, listener=listener)


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
