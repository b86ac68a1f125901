"""`python -m matrices.topologies.serve ROLE`: one role of a testbed, which any topology begins and ends cells at."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import click
import grpc

from matrices.topologies import roles
from matrices.topologies.evidence_service import SERVICE, EvidenceServicer, make_state
from matrices.topologies.processes import Child, die_with_parent, start_child
from treni import entry, serving
from treni.v1 import evidence_pb2_grpc

MODULE = "matrices.topologies.serve"


@entry.command()
@click.argument("role", type=click.Choice(["agent", "runtime", "controller", "tools", "host"]), metavar="")
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
@click.option("--parent-pid", type=int, hidden=True, help="End when this process does.")
def main(
    role: str,
    host: str,
    port: int,
    service_port: int,
    state: Path,
    model_dir: Path | None,
    backend: str,
    parent_pid: int | None,
    **engine: Any,
) -> None:
    """Serve the EvidenceService of one ROLE for a testbed, and for each cell the role's own service.

    agent: the internal arm (loop, engine and tools in one process) and inference. runtime: inference alone.
    controller: the external arm. tools: the tools. host: who harms this host as profiles with site = "host" say, for
    links as root. Whoever reaches the address can begin cells and read evidence:
    listen where only the harness can.
    Prints one line of JSON with the address when it is ready.
    """
    if parent_pid is not None:
        die_with_parent(parent_pid)
    make_state(state)
    servicer = EvidenceServicer(
        role=role,
        open_cell=_opener(role, model_dir, backend=backend, **engine),
        state=state,
        host=host,
        port=service_port,
        start_twin=_twin_of(sys.argv[1:], state),
        gpu=backend != "numpy",
    )
    asyncio.run(_serve(role, servicer, host=host, port=port))


def _opener(role: str, model_dir: Path | None, **engine: Any) -> roles.OpenCell:
    if role == "tools":
        return roles.open_tools
    if role == "controller":
        return roles.open_controller
    if role == "host":
        from matrices.topologies.host_role import open_host

        return open_host
    from runtime_svc.threads import limit_blas_threads

    limit_blas_threads()  # before NumPy is imported
    from matrices.command_line import bundled_checkpoint
    from runtime_svc.engine import Engine

    directory = bundled_checkpoint() if model_dir is None else model_dir
    return roles.open_runtime(Engine.load(directory, **engine))


async def _serve(role: str, servicer: EvidenceServicer, *, host: str, port: int) -> None:
    """Serves the role until SIGTERM or SIGINT; prints one line of JSON with the address when it is ready."""

    def add(server: grpc.aio.Server) -> str:
        evidence_pb2_grpc.add_EvidenceServiceServicer_to_server(servicer, server)
        return SERVICE

    server = await serving.start([add], host=host, port=port)
    try:
        await serving.until_told_to_stop(
            {"service": role, "address": server.address, "state": str(servicer.state)}
        )
    finally:
        await servicer.aclose()
        await server.stop()


def _twin_of(arguments: Sequence[str], state: Path) -> Callable[[int], Awaitable[Child]]:
    async def start(number: int) -> Child:
        # Of an option that is given twice the last one counts.
        more = ["--port", "0", "--service-port", "0", "--parent-pid", str(os.getpid())]
        return await start_child(
            "twin", ["-m", MODULE, *arguments, *more], log_path=state / f"twin-{number}.log"
        )

    return start


if __name__ == "__main__":
    main(prog_name="treni-route serve ROLE --testbed")
