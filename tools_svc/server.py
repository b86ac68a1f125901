"""The gRPC server of the tools, with health and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc

from tools_svc.metrics import ToolMetrics
from tools_svc.pool import BoundedPool
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import Registry, build_registry
from treni import metrics, serving
from treni.doors import OPEN, Door
from treni.errors import TreniError
from treni.limits import TOOL_REQUEST
from treni.spans import carried
from treni.v1 import tools_pb2, tools_pb2_grpc

WORKERS = 4
QUEUE = 60
"""Of each tool: calls that run, and calls that wait. Four tools together stay within `CALLS_IN_FLIGHT`."""

SERVICE_NAME = tools_pb2.DESCRIPTOR.services_by_name["ToolService"].full_name


class ToolServicer(tools_pb2_grpc.ToolServiceServicer):
    """`ToolService` over a registry whose tools run in a bounded pool."""

    def __init__(self, registry: Registry, pool: BoundedPool) -> None:
        self._registry = registry
        self._pool = pool

    async def List(
        self, request: tools_pb2.ListToolsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tools_pb2.ListToolsResponse:
        """The specs of every tool."""
        return tools_pb2.ListToolsResponse(tools=self._registry.specs())

    async def Call(
        self, request: tools_pb2.CallToolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tools_pb2.CallToolResponse:
        """One tool's result. Raises what `call_tool` raises."""
        return await call_tool(self._registry, self._pool, request, deadline_s=context.time_remaining())


async def call_tool(
    registry: Registry, pool: BoundedPool, request: tools_pb2.CallToolRequest, *, deadline_s: float | None
) -> tools_pb2.CallToolResponse:
    """One tool's result, from a thread of the tool's own; raises what `BoundedPool.run` and `Registry.call` raise.

    When this is cancelled, the tool hears that its caller has left.
    """
    kind = request.name if request.name in registry else ""
    work, counts = carried(partial(registry.call, request)), metrics.of(ToolMetrics)
    if counts is None:
        return await pool.run(work, deadline_s=deadline_s, kind=kind)
    with counts.arrived(kind) as call:
        return call.answered(await pool.run(call.running(work), deadline_s=deadline_s, kind=kind))


class RunningTools:
    """The tools, served on `address` ("host:port") until they are stopped."""

    def __init__(
        self, *, server: serving.RunningServer, pool: BoundedPool, registry: Registry, owned: bool
    ) -> None:
        self.address = server.address
        self._server = server
        self._pool = pool
        self._registry = registry
        self._owned = owned

    async def stop(self, *, grace_s: float = 1.0) -> None:
        """Refuses new calls, lets running ones end for `grace_s`, then closes the tools where they are its own."""
        await self._server.stop(grace_s=grace_s)
        await self._pool.close()
        if self._owned:
            await asyncio.to_thread(self._registry.close)


async def start(
    config: ToolsConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    workers: int = WORKERS,
    queue: int = QUEUE,
    door: Door = OPEN,
) -> RunningTools:
    """A started server of every tool of the config's sources; see `serve`. Raises what `build_registry` raises too."""
    registry = await asyncio.to_thread(build_registry, config)
    try:
        return await serve(
            registry,
            host=host,
            port=port,
            interceptors=interceptors,
            workers=workers,
            queue=queue,
            door=door,
            owned=True,
        )
    except TreniError:
        registry.close()
        raise


async def serve(
    registry: Registry,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    workers: int = WORKERS,
    queue: int = QUEUE,
    door: Door = OPEN,
    owned: bool = False,
) -> RunningTools:
    """A started server of the registry's tools; port 0 picks a free one. `interceptors` see each call first.

    The caller closes the registry, unless it is `owned`. Raises UNAVAILABLE when the address cannot be
    bound, INVALID_ARGUMENT where the `door` does not allow it.
    """
    pool = BoundedPool(workers=workers, queue=queue)

    def add(server: grpc.aio.Server) -> str:
        tools_pb2_grpc.add_ToolServiceServicer_to_server(ToolServicer(registry, pool), server)
        return SERVICE_NAME

    server = await serving.start(
        [add],
        host=host,
        port=port,
        interceptors=interceptors,
        largest_request=TOOL_REQUEST,
        door=door,
    )
    return RunningTools(server=server, pool=pool, registry=registry, owned=owned)
