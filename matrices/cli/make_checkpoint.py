"""`treni-route make-checkpoint`: a random-weight directory of a published shape, for benches and tests."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeElapsedColumn, TransferSpeedColumn

from runtime_svc.weights.published_shapes import SHAPES, config_of
from treni import entry

_SIZES = "\n".join(
    f"  {name:12}{parameters / 1e6:10,.1f} M parameters {2 * parameters / 1e9:8.3f} GB"
    for name, parameters in ((name, config_of(name).tensors.parameters) for name in SHAPES)
)

_EPILOG = f"""\b
Shapes (in bfloat16):
{_SIZES}

\b
Examples:
  treni-route make-checkpoint --shape tiny-random models/tiny
  treni-route make-checkpoint --shape qwen3-0.6b models/noise-0.6b
  treni-route serve runtime --model models/noise-0.6b

The config is the published one, number for number; the weights are noise of the right scale, so that speed and
memory are the real model's and the text is not. The same shape and seed give the same bytes. A directory that
was interrupted has no config.json and is refused by everything that loads one: remove it and begin again."""


@entry.command(name="make-checkpoint", epilog=_EPILOG)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--shape", type=click.Choice(list(SHAPES)), required=True, help="Which model's shape; see below."
)
@click.option(
    "--seed", type=entry.WholeRange(0, 2**32 - 1), default=0, show_default=True, help="Of the weights."
)
def make_checkpoint(directory: Path, shape: str, seed: int) -> None:
    """Write a Hugging Face DIRECTORY of a published SHAPE with random weights, streamed with bounded memory."""
    from runtime_svc.weights.random_shards import write_random_shards

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task(shape, total=None)
    with bar:
        write_random_shards(
            directory,
            shape,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    click.echo(str(directory))
