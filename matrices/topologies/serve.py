"""`python -m matrices.topologies.serve ROLE`: one role of a testbed, which any topology begins and ends cells at."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matrices.topologies.processes import die_with_parent
from matrices.topologies.role_command import HOST
from tools_svc.sources import BUILTIN
from treni import entry, serving
from treni.door_options import DoorSettings, door_options
from treni.metrics_page import metrics_option, serving_metrics
from treni.trace_options import trace_options

if TYPE_CHECKING:
    from matrices.topologies.role_server import RoleServer


@entry.command()
@click.argument(
    "role", type=click.Choice(["agent", "runtime", "controller", "tools", "host", "adapter"]), metavar=""
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=entry.WholeRange(0, 65535),
    default=0,
    show_default=True,
    help="The port of the EvidenceService; 0 picks a free one.",
)
@click.option(
    "--service-port",
    type=entry.WholeRange(0, 65535),
    default=0,
    show_default=True,
    help="The port of the role's own service, the same in every cell; 0 picks a free one for each.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder for delivery logs and ledgers. A service that is started again needs the one that it had.",
)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="agent, runtime: a Hugging Face directory or a GGUF file; default: the bundled treni-tiny.",
)
@click.option(
    "--backend", default="numpy", show_default=True, help="agent, runtime: numpy, or cupy for an NVIDIA GPU."
)
@click.option(
    "--encoder",
    type=click.Path(path_type=Path, file_okay=False),
    help="agent, runtime: a sentence encoder for embeddings and the semantic route; default: none.",
)
@click.option("--slots", type=entry.WholeRange(1), help="agent, runtime: KV slots; default: by memory.")
@click.option(
    "--slot-tokens",
    type=entry.WholeRange(1),
    help="agent, runtime: tokens that a KV slot holds; default: by model.",
)
@click.option(
    "--batch-invariant", is_flag=True, help="agent, runtime: the same bits whoever runs beside a sequence."
)
@click.option(
    "--tools",
    metavar="builtin|mcp:COMMAND|mcp:URL",
    multiple=True,
    default=BUILTIN,
    show_default=True,
    help="agent, tools: where tools come from, ours or an MCP server; repeatable.",
)
@metrics_option
@click.option("--parent-pid", type=int, hidden=True, help="End when this process does.")
@trace_options()
@door_options
def main(
    role: str,
    host: str,
    port: int,
    service_port: int,
    state: Path,
    model_dir: Path | None,
    parent_pid: int | None,
    metrics_port: int | None,
    doors: DoorSettings,
    **engine: Any,
) -> None:
    """Serve the EvidenceService of one ROLE for a testbed, and for each cell the role's own service.

    agent: the internal arm (loop, engine and tools in one process) and inference. runtime: inference alone.
    controller: the external arm. tools: the tools. host: who harms this host as profiles with site = "host" say, for
    links as root. adapter: the user's own agent, for `local` alone. Whoever is let in can begin cells and read
    evidence.
    Prints one line of JSON with the address when it is ready.
    """
    if parent_pid is not None:
        die_with_parent(parent_pid)
    with entry.uncollected():
        from matrices.topologies.role_server import RoleSettings, evidence_servicer, start_role
    settings = RoleSettings(
        role=role,
        host=host,
        port=port,
        service_port=service_port,
        state=state,
        doors=doors,
        model_dir=model_dir,
        **engine,
    )
    with serving_metrics(metrics_port) as told:
        asyncio.run(_serve(role, start_role(settings, evidence_servicer(settings)), told))


async def _serve(role: str, starting: Awaitable[RoleServer], told: dict[str, str]) -> None:
    """Serves the role until SIGTERM or SIGINT; prints one line of JSON with the address when it is ready."""
    server = await starting
    try:
        await serving.until_told_to_stop(
            {"service": role, "address": server.address, "state": str(server.state), **told}
        )
    finally:
        await server.aclose()


if __name__ == "__main__":
    always = sys.argv[1:2] == [HOST]  # for a testbed, whether the user says so or not
    main(prog_name=f"treni-route serve {HOST}" if always else "treni-route serve ROLE --testbed")
