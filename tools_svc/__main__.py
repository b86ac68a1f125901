"""`python -m tools_svc`: serves the tools until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import click

from tools_svc import mcp_service
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import Registry, build_registry
from tools_svc.server import serve
from tools_svc.sources import BUILTIN
from treni import entry, serving
from treni.door_options import DoorSettings, door_options
from treni.doors import Door
from treni.metrics_page import metrics_option, serving_metrics
from treni.trace_options import trace_options


@entry.command()
@click.option(
    "--port", type=entry.WholeRange(0, 65535), default=0, help="Port to listen on; 0 picks a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    required=True,
    help="The ledger's SQLite file; made when absent.",
)
@click.option(
    "--tools",
    metavar="builtin|mcp:COMMAND|mcp:URL",
    multiple=True,
    default=BUILTIN,
    show_default=True,
    help="Where tools come from, ours or an MCP server; repeatable.",
)
@click.option(
    "--mcp",
    "mcp_port",
    type=entry.WholeRange(0, 65535),
    help="Be an MCP server too, over HTTP on this port of 127.0.0.1; 0 picks a free one.",
)
@click.option("--mcp-stdio", is_flag=True, help="Be an MCP server on stdin and stdout, and nothing else.")
@metrics_option
@trace_options("tools")
@door_options
def main(
    host: str,
    port: int,
    ledger: Path,
    tools: tuple[str, ...],
    mcp_port: int | None,
    mcp_stdio: bool,
    metrics_port: int | None,
    doors: DoorSettings,
) -> None:
    """Serve the tools. Prints one line of JSON with the address when it is ready."""
    if mcp_port is not None or mcp_stdio:
        mcp_service.refuse_absent()
    config = ToolsConfig(ledger_path=ledger, sources=tools)
    with serving_metrics(metrics_port) as told, build_registry(config) as registry:
        if mcp_stdio:
            asyncio.run(mcp_service.serve_stdio(registry))
        else:
            asyncio.run(_serve(registry, host, port, mcp_port, doors.door, told))


async def _serve(
    registry: Registry, host: str, port: int, mcp_port: int | None, door: Door, told: dict[str, str]
) -> None:
    server = await serve(registry, host=host, port=port, door=door)
    ready = {"service": "tools", "address": server.address, **told}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        if mcp_port is not None:
            ready["mcp"] = await stack.enter_async_context(mcp_service.serving_mcp(registry, mcp_port))
        await serving.until_told_to_stop(ready)


if __name__ == "__main__":
    main(prog_name="treni-route serve tools")
