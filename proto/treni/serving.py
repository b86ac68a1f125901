"""What every server of the project has in common: health, reflection, an address, a graceful end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from treni import memory, metadata, spans
from treni.doors import OPEN, Door
from treni.errors import Code, TreniError
from treni.guard import Guard
from treni.limits import AGENT_REQUEST, Limit
from treni.metrics_rpc import server_interceptors
from treni.serving_core import steady_server

AddService = Callable[[grpc.aio.Server], str]
"""Adds a service to a server that has not started, and says the service's full name."""


class RunningServer:
    """A server that answers on `address` ("host:port") until it is stopped."""

    def __init__(
        self, *, address: str, server: grpc.aio.Server, health_servicer: health.aio.HealthServicer
    ) -> None:
        self.address = address
        self._server = server
        self._health = health_servicer
        self._memory = asyncio.create_task(memory.give_back())

    async def stop(self, *, grace_s: float = 1.0) -> None:
        """Refuses new calls and lets running ones end for `grace_s`; then they are cancelled."""
        self._memory.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


async def start(
    services: Sequence[AddService],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    largest_request: Limit = AGENT_REQUEST,
    door: Door = OPEN,
) -> RunningServer:
    """A started server of the services, with standard health and reflection; port 0 picks a free one.

    `host` is a name or an address, IPv6 with or without brackets. A server that asks its callers for a key or a
    certificate has no reflection. Raises UNAVAILABLE when the address cannot be bound, INVALID_ARGUMENT (`door_open`)
    for one that other machines reach behind a `door` that does not allow it.
    """
    door.refuse_beyond_loopback(host)
    # Twice the limit: what is a little over it is refused in words, and what is far over never takes any memory.
    options = [*metadata.SERVER_OPTIONS, ("grpc.max_receive_message_length", 2 * largest_request.most)]
    every = [*server_interceptors(), *door.interceptors(), Guard(), *spans.interceptors(), *interceptors]
    server = steady_server(every, options)
    names = [add(server) for add in services]
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if not door.locked:
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        bound_port = (
            server.add_insecure_port(join(host, port))
            if door.tls is None
            else server.add_secure_port(join(host, port), door.tls.credentials())
        )
    except RuntimeError as error:
        await server.stop(None)
        raise not_bound(host, port, str(error)) from error
    await server.start()
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return RunningServer(address=join(host, bound_port), server=server, health_servicer=health_servicer)


def join(host: str, port: int) -> str:
    """The address "host:port" as clients take it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def free_port(host: str = "127.0.0.1") -> int:
    """A port of the host that nobody uses now, for a program that does not pick one itself."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def not_bound(host: str, port: int, why: str) -> TreniError:
    """The error of a server whose address is taken, or is none of this machine's."""
    return TreniError(
        Code.UNAVAILABLE,
        "address_not_bound",
        expected=f"{join(host, port)} to be free and an address of this machine",
        got=why,
        todo="use another port, or 0 for any free one, and a host such as 127.0.0.1 or ::1",
    )


async def until_told_to_stop(ready: Mapping[str, str]) -> None:
    """Prints `ready` as one line of JSON on stdout, then waits for SIGINT or SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    print(json.dumps(dict(ready)), flush=True)
    await stopping.wait()
