"""`python -m deploy.observe`: services, a Prometheus on them, and a matrix where one is asked for."""

from __future__ import annotations

import asyncio
import shlex
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import click

from deploy.observe.prometheus import Prometheus, program, prometheus
from matrices.command_line import bundled_checkpoint
from matrices.topologies.processes import start_child
from treni import entry, processes, serving
from treni.errors import Code, TreniError

RUNTIME_PORT, TOOLS_PORT, CONTROLLER_PORT = 9400, 9401, 9402
"""Where deploy/prometheus/prometheus.yml looks for the services' metrics."""


@entry.command()
@click.option(
    "--prometheus",
    "binary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The Prometheus to run; default: the one on the PATH.",
)
@click.option(
    "--port",
    type=entry.WholeRange(0, 65535),
    default=9090,
    show_default=True,
    help="The port of Prometheus on the loopback interface; 0 picks a free one.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of its data, which is kept; default: one that is gone in the end.",
)
@click.option(
    "--matrix",
    metavar="ARGUMENTS",
    help='Run a matrix too, such as "p00,p03 --runs 3"; Prometheus stays until it is interrupted.',
)
@click.option("--services/--no-services", default=True, help="Start a runtime, tools and a controller.")
def main(binary: Path | None, port: int, data: Path | None, matrix: str | None, services: bool) -> None:
    """Start the services with metrics and a Prometheus that scrapes them, and leave them up until interrupted.

    Prints one line of JSON with the addresses when everything is ready.
    """
    asked = None if matrix is None else _words(matrix)
    found = program(binary)
    if data is not None:
        asyncio.run(_observe(found, port, data.resolve(), asked, services))
        return
    with tempfile.TemporaryDirectory(prefix="treni-observe-") as folder:
        asyncio.run(_observe(found, port, Path(folder), asked, services))


def _words(matrix: str) -> list[str]:
    """The arguments as a shell would pass them. Raises INVALID_ARGUMENT for a quotation that does not end."""
    try:
        return shlex.split(matrix)
    except ValueError as error:
        raise TreniError(
            Code.INVALID_ARGUMENT,
            "matrix_arguments",
            expected='arguments of `treni-route matrix`, such as "p00,p03 --runs 3"',
            got=f"{matrix!r}: {error}",
            todo="end the quotation",
        ) from error


async def _observe(binary: Path, port: int, folder: Path, matrix: list[str] | None, services: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        ready = await _services(folder, stack) if services else {}
        server = await stack.enter_async_context(prometheus(folder, binary=binary, port=port))
        ready["prometheus"] = server.url
        running = None if matrix is None else asyncio.create_task(_matrix(matrix, server))
        try:
            await serving.until_told_to_stop(ready)
        finally:
            if running is not None:
                running.cancel()
                await asyncio.wait({running})


async def _services(folder: Path, stack: AsyncExitStack) -> dict[str, str]:
    """The services of external routing with metrics at their ports; their addresses by name."""
    addresses: dict[str, str] = {}

    async def start(name: str, module: str, metrics_port: int, *options: str) -> None:
        arguments = ["-m", module, *options, "--metrics-port", str(metrics_port)]
        child = await start_child(name, arguments, log_path=folder / f"{name}.log")
        stack.push_async_callback(child.stop)
        addresses[name] = child.address

    await start("runtime", "runtime_svc", RUNTIME_PORT, "--model", str(bundled_checkpoint()))
    await start("tools", "tools_svc", TOOLS_PORT, "--ledger", str(folder / "ledger.sqlite"))
    hops = ("--model-address", addresses["runtime"], "--tools-address", addresses["tools"])
    await start("controller", "controller", CONTROLLER_PORT, *hops)
    return addresses


async def _matrix(arguments: list[str], server: Prometheus) -> None:
    """Runs the matrix beside Prometheus; its table goes to stderr, as stdout has the addresses."""
    listed = ("--metrics-port", "0", "--metrics-targets", str(server.targets / "matrix.json"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "matrices", "matrix", *arguments, *listed), stdout=sys.stderr
    )
    try:
        status = await process.wait()
    finally:
        await processes.stop(process)
    ended = "is over" if status in (0, 3) else f"ended with status {status}"
    entry.note(f"the matrix {ended}; its series are kept until you interrupt")


if __name__ == "__main__":
    main(prog_name="python -m deploy.observe")
