"""The tools as an MCP server: over streamable HTTP beside the gRPC server, or over stdin and stdout."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tools_svc.pool import BoundedPool
from tools_svc.registry import Registry
from tools_svc.server import QUEUE, WORKERS, call_tool
from treni.errors import Code, TreniError
from treni.limits import CALLS_IN_FLIGHT
from treni.v1.tools_pb2 import CallToolRequest

if TYPE_CHECKING:
    import mcp_types as types
    from mcp.server.lowlevel import Server

PATH = "/mcp"
HOST = "127.0.0.1"
CALL_S = 60.0
"""How long a call may take: MCP's clients send no deadline."""

KEY = "treni-route/idempotency-key"
"""The entry of a call's `_meta` that is its idempotency key; without it every call is a new effect."""

_REFUSALS = (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION, Code.ALREADY_EXISTS)


def refuse_absent() -> None:
    """Raises FAILED_PRECONDITION (`mcp_missing`) where the SDK is not installed."""
    if find_spec("mcp") is None:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "mcp_missing",
            expected="the package mcp to serve tools over MCP",
            got="none of that name",
            todo="pip install 'treni-route[mcp]'",
        )


def mcp_server(registry: Registry, pool: BoundedPool) -> Server[Any]:
    """An MCP server of the registry's tools, which run in the pool as those of the gRPC server do.

    What a tool refuses is a result that is marked as an error, for the model to read; a tool that is not there is
    INVALID_PARAMS; whatever else fails is INTERNAL_ERROR with the error's fields as its data.
    """
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.shared.exceptions import MCPError

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=spec.name,
                    description=spec.description,
                    input_schema=json.loads(spec.parameters_json),
                    annotations=types.ToolAnnotations(read_only_hint=not spec.has_side_effects),
                )
                for spec in registry.specs()
            ]
        )

    async def call(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        key = dict(params.meta or {}).get(KEY, "")
        request = CallToolRequest(
            name=params.name,
            arguments_json=json.dumps(params.arguments or {}),
            idempotency_key=key if isinstance(key, str) else "",
        )
        try:
            response = await call_tool(registry, pool, request, deadline_s=CALL_S)
        except TreniError as error:
            if error.code is Code.NOT_FOUND and error.kind == "tool_unknown":
                raise MCPError(types.INVALID_PARAMS, str(error)) from None
            if error.code in _REFUSALS:
                return types.CallToolResult(content=[types.TextContent(text=str(error))], is_error=True)
            raise MCPError(types.INTERNAL_ERROR, str(error), _fields(error)) from None
        return types.CallToolResult(
            content=[types.TextContent(text=response.result_json)],
            structured_content=json.loads(response.result_json),
        )

    return Server("treni-route", on_list_tools=list_tools, on_call_tool=call)


def _fields(error: TreniError) -> dict[str, object]:
    return {
        "code": error.code.name,
        "kind": error.kind,
        "definite": error.definite,
        "expected": error.expected,
        "got": error.got,
        "todo": error.todo,
    }


@asynccontextmanager
async def serving_mcp(registry: Registry, port: int) -> AsyncIterator[str]:
    """The URL at which the registry's tools are an MCP server while the block runs, on this machine alone.

    Port 0 picks a free one. Raises UNAVAILABLE (`address_not_bound`), and FAILED_PRECONDITION without the SDK.
    """
    refuse_absent()
    from starlette.responses import PlainTextResponse

    from treni import http_serving

    pool = BoundedPool(workers=WORKERS, queue=QUEUE)
    app = mcp_server(registry, pool).streamable_http_app(
        streamable_http_path=PATH, stateless_http=True, json_response=True, host=HOST
    )

    async def posted(scope: Any, receive: Any, send: Any) -> None:
        """The app without its streams for what a server says by itself: ours says nothing, and they stay open."""
        if scope["method"] == "GET":
            await PlainTextResponse("POST to it", status_code=405, headers={"allow": "POST"})(
                scope, receive, send
            )
            return
        await app(scope, receive, send)

    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # each failed call is told to its caller
    try:
        async with app.router.lifespan_context(app):
            running = await http_serving.start(
                posted, host=HOST, port=port, limit_concurrency=CALLS_IN_FLIGHT.most
            )
            try:
                yield f"{running.address}{PATH}"
            finally:
                await running.stop()
    finally:
        await pool.close()


async def serve_stdio(registry: Registry) -> None:
    """Serves the registry's tools over stdin and stdout, until stdin ends."""
    refuse_absent()
    from mcp.server.stdio import stdio_server

    pool = BoundedPool(workers=WORKERS, queue=QUEUE)
    server = mcp_server(registry, pool)
    try:
        async with stdio_server() as (read_stream, write_stream):
            await server.run(read_stream, write_stream, server.create_initialization_options())
    finally:
        await pool.close()
