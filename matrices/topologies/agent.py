"""`python -m matrices.topologies.agent`: serves the internal arm by itself until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import click
import grpc

from controller.policy import Policy
from tools_svc.protocol import ToolsConfig
from tools_svc.sources import BUILTIN
from treni import entry, serving
from treni.door_options import DoorSettings, door_options
from treni.doors import Door
from treni.metrics_page import metrics_option, serving_metrics
from treni.trace_options import trace_options


def _policy_options(command: Any) -> Any:
    """One option for each field of the policy, with the policy's own defaults."""
    for field in reversed(dataclasses.fields(Policy)):
        option = "--" + field.name.replace("_", "-")
        command = click.option(option, type=type(field.default), default=field.default, show_default=True)(
            command
        )
    return command


@entry.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=entry.WholeRange(0, 65535), default=0, show_default=True, help="0 picks a free port."
)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="A Hugging Face directory or a GGUF file; default: the bundled treni-tiny.",
)
@click.option("--backend", default="numpy", show_default=True, help="numpy, or cupy for an NVIDIA GPU.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, dir_okay=False),
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
@metrics_option
@trace_options("agent")
@door_options
@_policy_options
def main(
    host: str,
    port: int,
    model_dir: Path | None,
    backend: str,
    ledger: Path,
    tools: tuple[str, ...],
    metrics_port: int | None,
    doors: DoorSettings,
    **policy: Any,
) -> None:
    """Serve the internal arm: loop, engine and tools in one process. Prints one line of JSON when it is ready."""
    config = ToolsConfig(ledger_path=ledger, sources=tools)
    with serving_metrics(metrics_port) as told:
        asyncio.run(_serve(host, port, model_dir, backend, config, Policy(**policy), doors.door, told))


async def _serve(
    host: str,
    port: int,
    model_dir: Path | None,
    backend: str,
    tools: ToolsConfig,
    policy: Policy,
    door: Door,
    told: dict[str, str],
) -> None:
    from runtime_svc.threads import limit_blas_threads

    limit_blas_threads()  # before NumPy is imported
    from matrices.command_line import bundled_checkpoint
    from runtime_svc import server as inference
    from runtime_svc.core import InferenceCore
    from runtime_svc.engine import Engine
    from runtime_svc.internal import add_internal_agent, own_tools
    from runtime_svc.metrics import watch
    from tools_svc.registry import build_registry

    engine = Engine.load(bundled_checkpoint() if model_dir is None else model_dir, backend=backend)
    watch(engine)
    with build_registry(tools) as registry:
        async with InferenceCore(engine) as core:

            def add_agent(server: grpc.aio.Server) -> str:
                return add_internal_agent(server, core, own_tools(registry), policy)

            server = await inference.start(core, host=host, port=port, others=[add_agent], door=door)
            try:
                await serving.until_told_to_stop(
                    {"service": "agent", "address": server.address, "model": engine.model, **told}
                )
            finally:
                await server.stop()


if __name__ == "__main__":
    main(prog_name="treni-route serve agent")
