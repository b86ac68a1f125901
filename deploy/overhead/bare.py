"""`python -m deploy.overhead.bare ADDRESS`: a gRPC server that gives back what it gets, with nothing of ours in it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc

SERVICE = "treni.overhead.Echo"
METHOD = f"/{SERVICE}/Echo"


async def serve(host: str) -> None:
    """Serves at a free port of the address until the process is ended; prints a line of JSON with it when ready."""
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_registered_method_handlers(SERVICE, {"Echo": handler})
    port = server.add_insecure_port(f"{host}:0")
    await server.start()
    print(json.dumps({"service": "echo", "address": f"{host}:{port}"}), flush=True)
    await server.wait_for_termination()


async def _echo(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return request


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
