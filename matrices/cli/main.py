"""The `treni-route` command: verbs. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import click

from matrices.cli.bench import bench
from matrices.cli.compare import compare
from matrices.cli.doctor import doctor
from matrices.cli.judge import check, report
from matrices.cli.make_checkpoint import make_checkpoint
from matrices.cli.matrix import EPILOG, matrix
from matrices.cli.profiles import profiles
from matrices.cli.schema import schema
from matrices.cli.serve import serve
from matrices.simulation.command import main as simulate
from treni import entry


@entry.group(
    epilog=f"{EPILOG}\n\n\b\nCompletion in bash (zsh and fish alike), for a line of your ~/.bashrc:\n"
    '  eval "$(_TRENI_ROUTE_COMPLETE=bash_source treni-route)"'
)
@click.version_option(package_name="treni-route")
def main() -> None:
    """Measure where an LLM agent's routing should live: inside the inference process, or outside it."""


for verb in (
    matrix,
    check,
    report,
    compare,
    profiles,
    schema,
    doctor,
    bench,
    simulate,
    serve,
    make_checkpoint,
):
    main.add_command(verb)
