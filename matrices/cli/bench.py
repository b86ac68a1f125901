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

_model_option = click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="A Hugging Face directory or a GGUF file; default: the bundled treni-tiny.",
)

_EPILOG = """\b
Examples:
  treni-route bench routing                          controller, echo floor, both routes over a bare generation
  treni-route bench metrics                          what metrics add to the latency of both arms
  treni-route bench traces                           latency with traces off and on
  treni-route bench scale                            throughput and ratio with 1, 2 and 4 controllers
  treni-route bench runtime                          the bundled model on the CPU, beside its floors
  treni-route bench runtime --model DIR --backend cupy --peer transformers --peer vllm
  treni-route bench runtime --help                   every option, every kind of peer
  treni-route bench front --litellm PYTHON           what gRPC and HTTP add, beside LiteLLM's proxy

\b
Each figure is printed beside what it is to be held against, of the same run: ratios, never verdicts."""


CONTROLLERS = (1, 2, 4)
"""The numbers of controllers that are compared."""

_LEGEND = "A floor is the least that such a request takes without routing, in the same run."


@entry.group(epilog=_EPILOG)
def bench() -> None:
    """Measure the testbed's own cost, or the runtime beside its bounds and other runtimes."""


@bench.command()
@click.option(
    "--requests", type=entry.WholeRange(5), default=40, show_default=True, help="Requests of each kind."
)
@_model_option
@click.option("--keys", is_flag=True, help="Have the services behind a key, as --topology local:keys does.")
@output.format_option
def routing(requests: int, model_dir: Path | None, keys: bool, form: str) -> None:
    """Measure the routing's own cost beside its floors, in one run, and print the ratios."""
    from matrices.running.bench import run as measure

    costs = asyncio.run(measure(str(model_dir or bundled_checkpoint()), requests, keys=keys))
    if form == "json":
        output.say_json(dataclasses.asdict(costs))
    else:
        rows = [(row.what, f"{row.median_s * 1e3:.3f}", _beside_floor(row)) for row in costs.rows]
        output.say(output.table(("what", "median ms", "beside its floor"), rows, right=(1,)))
        output.say(f"\n{costs.requests} requests of each kind, interleaved. {_LEGEND}\n")


def _beside_floor(row: Cost) -> str:
    return "(a floor)" if row.ratio is None else f"{row.ratio:.3f} of one {row.floor}"


@bench.command()
@click.option(
    "--concurrency", type=entry.WholeRange(1, 64), default=8, show_default=True, help="Requests in flight."
)
@click.option(
    "--requests",
    type=entry.WholeRange(1),
    default=48,
    show_default=True,
    help="Requests of each arm in a round.",
)
@click.option(
    "--rounds", type=entry.WholeRange(1), default=5, show_default=True, help="Rounds that are counted."
)
@_model_option
@output.format_option
def scale(concurrency: int, requests: int, rounds: int, model_dir: Path | None, form: str) -> None:
    """Measure how throughput and the ratio of the arms move with 1, 2 and 4 controllers, in one run."""
    from matrices.running.bench_scale import run as measure

    directory = str(model_dir or bundled_checkpoint())
    shape = {"concurrency": concurrency, "requests": requests, "rounds": rounds}
    found = asyncio.run(measure(directory, CONTROLLERS, **shape))
    if form == "json":
        output.say_json(dataclasses.asdict(found))
        return
    rows = [
        (
            str(row.controllers),
            _ranged(row.baseline_per_s, row.baseline_per_s_range),
            _ranged(row.compared_per_s, row.compared_per_s_range),
            _ranged(row.ratio, row.ratio_range, 3),
        )
        for row in found.rows
    ]
    over = f"{found.compared} over {found.baseline}"
    headings = ("controllers", f"{found.baseline} /s", f"{found.compared} /s", over)
    output.say(output.table(headings, rows, right=range(4)))
    output.say(
        f"\n{found.concurrency} requests in flight, {found.requests} of each arm in each of {found.rounds} rounds, all "
        "numbers of controllers\nup at once and in turn. Medians of the rounds with the least and the most; the last "
        "column is the ratio of\nmean latencies.\n"
    )


@bench.command(name="metrics")
@click.option(
    "--rounds",
    type=entry.WholeRange(10),
    default=200,
    show_default=True,
    help="Rounds: in each, a request of both arms to services without metrics, others without, and those with them.",
)
@_model_option
@output.format_option
def metrics_cost(rounds: int, model_dir: Path | None, form: str) -> None:
    """Measure what metrics, scraped every second, add to the latency of both arms, beside the A/A floor of the run."""
    from matrices.running.bench_metrics import SCRAPE_S
    from matrices.running.bench_metrics import run as measure

    found = asyncio.run(measure(str(model_dir or bundled_checkpoint()), rounds))
    if form == "json":
        output.say_json(dataclasses.asdict(found))
        return
    rows = [
        (
            row.arm,
            f"{row.median_s * 1e3:.3f}",
            _ranged(row.floor, row.floor_interval, 4),
            _ranged(row.moved, row.moved_interval, 4),
            "yes" if row.within_floor else "no",
        )
        for row in found.rows
    ]
    headings = ("arm", "median ms off", "off again / off (A/A)", "on / off", "within the floor")
    output.say(output.table(headings, rows, right=range(1, 4)))
    output.say(
        f"\n{found.rounds} rounds, in each of which every kind of services had a request of each arm, in an order that "
        f"was drawn.\nThe median of the rounds' ratios with its 95 % interval; {found.scrapes} pages were scraped "
        f"meanwhile, every {SCRAPE_S:g} s.\n"
    )


@bench.command()
@click.option(
    "--requests", type=entry.WholeRange(5), default=40, show_default=True, help="Requests of each kind."
)
@_model_option
@output.format_option
def traces(requests: int, model_dir: Path | None, form: str) -> None:
    """Measure what keeping traces costs a request of either arm, beside two testbeds that keep none."""
    from matrices.running.bench_traces import run as measure

    found = asyncio.run(measure(str(model_dir or bundled_checkpoint()), requests))
    if form == "json":
        output.say_json(dataclasses.asdict(found))
        return
    rows = [
        (
            row.arm,
            row.way,
            f"{row.median_s * 1e3:.3f}",
            _ranged(row.ratio, row.ratio_range, 3),
            f"{row.cpu_s * 1e3:.1f}",
        )
        for row in found.rows
    ]
    headings = ("arm", "traces", "median ms", "to the first that is off", "services' CPU ms")
    output.say(output.table(headings, rows, right={2, 3, 4}))
    output.say(
        f"\n{found.requests} requests of each kind, in turn. Ratios are those of neighbours in time: the median, "
        "and the middle half.\n"
    )


def _ranged(median: float, extremes: tuple[float, float], digits: int = 1) -> str:
    least, most = extremes
    return f"{median:.{digits}f} [{least:.{digits}f}, {most:.{digits}f}]"


@bench.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def runtime(arguments: tuple[str, ...]) -> None:
    """Measure the runtime beside other runtimes; `treni-route bench runtime --help` has the options."""
    _become("runtime_svc.bench", arguments)


@bench.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def front(arguments: tuple[str, ...]) -> None:
    """Measure what gRPC and HTTP add to the bare engine, beside a LiteLLM proxy; `... bench front --help` has more."""
    _become("runtime_svc.bench.fronts", arguments)


def _become(module: str, arguments: tuple[str, ...]) -> None:
    # A process of its own, with few imports and its own number of threads: as `serve` does it.
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
