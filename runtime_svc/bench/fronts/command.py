"""The command line of the fronts' bench."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from runtime_svc.bench.command import BUNDLED
from runtime_svc.bench.fronts.measure import measure
from treni import entry

_NOTE = """
{requests} requests of each, one at a time and in turns; then {rounds} rounds of {requests}, {concurrency} in flight.
Added is a request's time at the client less the engine's own time of that request, and over is its ratio to what HTTP
adds. Engine is no front at all, in this process. The proxy stands before the HTTP front, and adds that too.
"""


@entry.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    default=BUNDLED,
    help="A Hugging Face directory or a GGUF file; default: the bundled model.",
)
@click.option(
    "--requests", type=entry.WholeRange(5), default=200, show_default=True, help="Requests of each front."
)
@click.option(
    "--concurrency", type=entry.WholeRange(1, 64), default=8, show_default=True, help="Requests in flight."
)
@click.option(
    "--rounds", type=entry.WholeRange(1), default=3, show_default=True, help="Rounds of throughput."
)
@click.option(
    "--litellm",
    "proxy_python",
    metavar="PYTHON",
    help="An interpreter with litellm[proxy], to run LiteLLM's proxy before the HTTP front; default: without.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Of the result.",
)
def main(model: Path, form: str, **asked: Any) -> None:
    """Measure what gRPC, HTTP and, beside them, a LiteLLM proxy add to the engine's own time, in one run."""
    found = asyncio.run(measure(model, **asked))
    if form == "json":
        click.echo(json.dumps(dataclasses.asdict(found)))
        return
    click.echo(
        f"{'front':8} {'median ms':>10} {'added ms':>9} {'p99':>8} {'over':>6} {'p99':>6} {'req/s':>7}"
    )
    for row in found.rows:
        click.echo(
            f"{row.front:8} {row.latency_s * 1e3:10.2f} {row.added_s * 1e3:9.2f} {row.added_p99_s * 1e3:8.2f} "
            f"{row.over_http:6.2f} {row.over_http_p99:6.2f} {row.per_s:7.1f}"
        )
    click.echo(_NOTE.format(**dataclasses.asdict(found)))
