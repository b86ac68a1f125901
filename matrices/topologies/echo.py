"""`python -m matrices.topologies.echo`: a bare grpc.aio echo server, the floor that a hop's cost is held against."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import grpc

from matrices.topologies.processes import die_with_parent
from treni import serving

SERVICE = "treni.bench.Echo"
METHOD = f"/{SERVICE}/Echo"


async def _echo(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return request


def _add(server: grpc.aio.Server) -> str:
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_registered_method_handlers(SERVICE, {"Echo": handler})
    return SERVICE


async def _serve() -> None:
    server = await serving.start([_add])
    try:
        await serving.until_told_to_stop({"service": "echo", "address": server.address})
    finally:
        await server.stop()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid())
    asyncio.run(_serve())
