"""The gRPC server of the tools, with health and reflection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tools_svc.pool import BoundedPool
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import Registry, build_registry
from treni import metadata
from treni.errors import Code, TreniError, abort
from treni.v1 import tools_pb2, tools_pb2_grpc

WORKERS = 8
QUEUE = 256
MAX_CONCURRENT_RPCS = 1024

# No valid call is longer: arguments are at most 64 KiB. Times the RPC limit, it bounds the server's memory.
MAX_REQUEST_BYTES = 128 * 1024

_SERVICE = tools_pb2.DESCRIPTOR.services_by_name["ToolService"].full_name
_OPTIONS = {**dict(metadata.SERVER_OPTIONS), "grpc.max_receive_message_length": MAX_REQUEST_BYTES}


class ToolServicer(tools_pb2_grpc.ToolServiceServicer):
    """`ToolService` over a registry whose tools run in a bounded pool."""

    def __init__(self, registry: Registry, pool: BoundedPool) -> None:
        self._registry = registry
        self._pool = pool

    async def List(
        self, request: tools_pb2.ListToolsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tools_pb2.ListToolsResponse:
        """Every tool."""
        return tools_pb2.ListToolsResponse(tools=self._registry.specs())

    async def Call(
        self, request: tools_pb2.CallToolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tools_pb2.CallToolResponse:
        """One tool's result; a refusal travels as a status with an `ErrorDetail`."""
        work = partial(self._registry.call, request)
        try:
            return await self._pool.run(work, deadline_s=context.time_remaining())
        except TreniError as error:
            await abort(context, error)


class RunningServer:
    """A server that answers on `address` ("host:port") until it is stopped."""

    def __init__(
        self,
        *,
        address: str,
        server: grpc.aio.Server,
        health_servicer: health.aio.HealthServicer,
        pool: BoundedPool,
        registry: Registry,
    ) -> None:
        self.address = address
        self._server = server
        self._health = health_servicer
        self._pool = pool
        self._registry = registry

    async def stop(self, *, grace_s: float = 1.0) -> None:
        """Refuses new calls, lets running ones end for `grace_s`, then closes the tools."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        await self._pool.close()
        self._registry.close()


async def start(
    config: ToolsConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    workers: int = WORKERS,
    queue: int = QUEUE,
) -> RunningServer:
    """A started server of every tool; port 0 picks a free one. `interceptors` see each call before it is handled.

    Raises UNAVAILABLE when the address cannot be bound.
    """
    registry = build_registry(config)
    pool = BoundedPool(workers=workers, queue=queue)
    server = grpc.aio.server(
        interceptors=list(interceptors),
        options=list(_OPTIONS.items()),
        maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS,
    )
    tools_pb2_grpc.add_ToolServiceServicer_to_server(ToolServicer(registry, pool), server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        bound_port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        registry.close()
        raise TreniError(
            Code.UNAVAILABLE,
            "address_not_bound",
            expected=f"{host}:{port} to be free",
            got=str(error),
            todo="use another port, or 0 for any free one",
        ) from error
    await server.start()
    for service in ("", _SERVICE):
        await health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    return RunningServer(
        address=f"{host}:{bound_port}",
        server=server,
        health_servicer=health_servicer,
        pool=pool,
        registry=registry,
    )
