"""`python -m tools_svc`: serves the tools until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from tools_svc.protocol import ToolsConfig
from tools_svc.server import start
from treni import entry, serving
from treni.door_options import DoorSettings, door_options
from treni.doors import Door


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
@door_options
def main(host: str, port: int, ledger: Path, doors: DoorSettings) -> None:
    """Serve the tools. Prints one line of JSON with the address when it is ready."""
    asyncio.run(_serve(host, port, ledger, doors.door))


async def _serve(host: str, port: int, ledger: Path, door: Door) -> None:
    server = await start(ToolsConfig(ledger_path=ledger), host=host, port=port, door=door)
    try:
        await serving.until_told_to_stop({"service": "tools", "address": server.address})
    finally:
        await server.stop()


if __name__ == "__main__":
    main(prog_name="treni-route serve tools")
