"""`treni-route bench`: what the routing costs, and how fast the runtime is."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matrices.cli import output
from matrices.command_line import bundled_checkpoint
from treni import entry

if TYPE_CHECKING:
    from matrices.running.bench import Cost

_EPILOG = """\b
Examples:
  treni-route bench routing                          controller, echo floor, both routes over a bare generation
  treni-route bench runtime                          the bundled model on the CPU, beside its floors
  treni-route bench runtime --model DIR --backend cupy --peer transformers --peer vllm
  treni-route bench runtime --help                   every option, every kind of peer

\b
Both print each figure beside its floor of the same run: ratios, never verdicts."""


_LEGEND = "A floor is the least that such a request takes without routing, in the same run."


@entry.group(epilog=_EPILOG)
def bench() -> None:
    """Measure the testbed's own cost, or the runtime beside its bounds and other runtimes."""


@bench.command()
@click.option(
    "--requests", type=entry.WholeRange(5), default=40, show_default=True, help="Requests of each kind."
)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="A Hugging Face directory or a GGUF file; default: the bundled treni-tiny.",
)
@output.format_option
def routing(requests: int, model_dir: Path | None, form: str) -> None:
    """Measure the routing's own cost beside its floors, in one run, and print the ratios."""
    from matrices.running.bench import run as measure

    costs = asyncio.run(measure(str(model_dir or bundled_checkpoint()), requests))
    if form == "json":
        output.say_json(dataclasses.asdict(costs))
    else:
        rows = [(row.what, f"{row.median_s * 1e3:.3f}", _beside_floor(row)) for row in costs.rows]
        output.say(output.table(("what", "median ms", "beside its floor"), rows, right=(1,)))
        output.say(f"\n{costs.requests} requests of each kind, interleaved. {_LEGEND}\n")


def _beside_floor(row: Cost) -> str:
    return "(a floor)" if row.ratio is None else f"{row.ratio:.3f} of one {row.floor}"


@bench.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def runtime(arguments: tuple[str, ...]) -> None:
    """Measure the runtime beside other runtimes; `treni-route bench runtime --help` has the options."""
    # A process of its own, with few imports and its own number of threads: as `serve` does it.
    os.execv(sys.executable, [sys.executable, "-m", "runtime_svc.bench", *arguments])
