"""What every server of the project has in common: health, reflection, an address, a graceful end."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Mapping, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from treni import metadata
from treni.errors import Code, TreniError
from treni.guard import Guard
from treni.limits import MODEL_REQUEST, Limit

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

    async def stop(self, *, grace_s: float = 1.0) -> None:
        """Refuses new calls and lets running ones end for `grace_s`; then they are cancelled."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


async def start(
    services: Sequence[AddService],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    request_limit: Limit = MODEL_REQUEST,
) -> RunningServer:
    """A started server of the services, with standard health and reflection; port 0 picks a free one.

    Raises UNAVAILABLE when the address cannot be bound.
    """
    # Twice the limit: what is a little over it is refused in words, and what is far over never takes any memory.
    options = [*metadata.SERVER_OPTIONS, ("grpc.max_receive_message_length", 2 * request_limit.most)]
    guard = Guard(request_limit)
    server = grpc.aio.server(interceptors=[guard, *interceptors], options=options)
    names = [add(server) for add in services]
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        bound_port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise TreniError(
            Code.UNAVAILABLE,
            "address_not_bound",
            expected=f"{host}:{port} to be free",
            got=str(error),
            todo="use another port, or 0 for any free one",
        ) from error
    await server.start()
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return RunningServer(address=f"{host}:{bound_port}", server=server, health_servicer=health_servicer)


async def until_told_to_stop(ready: Mapping[str, str]) -> None:
    """Prints `ready` as one line of JSON on stdout, then waits for SIGINT or SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    print(json.dumps(dict(ready)), flush=True)
    await stopping.wait()
