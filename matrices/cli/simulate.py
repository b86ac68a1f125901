"""`treni-route simulate`: the tables of coverage and of wrong verdicts."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product, repeat
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from matrices.cli import output
from matrices.simulation.campaigns import Setting
from matrices.simulation.measure import Measured, measure
from matrices.simulation.noise import FAMILIES
from matrices.simulation.tables import closing, full_table, markdown, summary
from matrices.spec.profiles import select_profiles
from matrices.statistics.paired_fit import MIN_BLOCKS
from treni import entry
from treni.errors import invalid_argument

_log = logging.getLogger(__name__)

_LEGEND = (
    "Percent of the campaigns of a row, from the lowest to the highest row; docs/simulation.md says what noise, level\n"
    "and limits are."
)

LEVELS_MS = "0.4,1,8,40"
RUNS = "3,6,12,24"
PROFILES = "p00,p01,p03,p04,p04t"
PLANTED_MS = "0,20"


@entry.command()
@click.option("--families", default=",".join(FAMILIES), show_default=True, help="Kinds of noise.")
@click.option("--levels", default=LEVELS_MS, show_default=True, help="Noise of a pair's difference, in ms.")
@click.option("--runs", default=RUNS, show_default=True, help="Blocks of four pairs.")
@click.option("--profiles", default=PROFILES, show_default=True, help="A selection of profiles.")
@click.option("--planted", default=PLANTED_MS, show_default=True, help="Differences of the arms, in ms.")
@click.option(
    "--campaigns",
    type=entry.WholeRange(1),
    default=1000,
    show_default=True,
    help="For each row; under 1,000 chance alone breaks limits.",
)
@click.option("--seed", type=entry.WholeRange(0), default=0, show_default=True, help="Draws the noise.")
@click.option("--full", is_flag=True, help="Every row instead of the tables by family, level and runs.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="Tables to be read, as docs/simulation.md has them, or JSON for a script.",
)
def simulate(
    families: str,
    levels: str,
    runs: str,
    profiles: str,
    planted: str,
    campaigns: int,
    seed: int,
    full: bool,
    form: str,
) -> None:
    """Measure how often intervals cover a planted truth and what verdicts say of it.

    Exits with 1 where a row is out of limits.
    """
    settings = _settings(families, levels, runs, profiles, planted)
    _log.info("simulating", extra={"rows": len(settings), "campaigns": campaigns})
    rows = _measured(settings, campaigns, seed)
    found = [full_table(rows)] if full else summary(rows)
    if form == "json":
        output.say_json([_as_json(row) for row in rows])
    elif form == "markdown":
        click.echo(markdown(found) if full else f"{markdown(found)}\n\n{closing(rows)}")
    else:
        for table in found:
            heading = f"{table.title}\n" if table.title else ""
            drawn = output.table(table.head, table.lines, right=range(2, len(table.head)))
            output.say(f"{heading}{drawn}\n")
        output.say(f"{_LEGEND}\n{closing(rows)}\n")
    if any(row.faults for row in rows):
        sys.exit(1)


def _measured(settings: Sequence[Setting], campaigns: int, seed: int) -> list[Measured]:
    """The row of each setting, on every core there is, with a bar on a terminal over those that are done."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    spawned = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with (
        ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), len(settings)), spawned) as pool,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        rows = pool.map(measure, settings, repeat(campaigns), repeat(seed))
        return list(bar.track(rows, total=len(settings)))


def _as_json(row: Measured) -> dict[str, Any]:
    setting = dataclasses.asdict(row.setting)
    setting["profile"] = None if row.setting.profile is None else row.setting.profile.name
    figures = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return figures | {"setting": setting, "out_of_limits": list(row.faults)}


def _settings(families: str, levels: str, runs: str, profiles: str, planted: str) -> list[Setting]:
    chosen = [part.strip() for part in families.split(",")]
    unknown = [family for family in chosen if family not in FAMILIES]
    if unknown:
        raise invalid_argument(
            "simulation_family",
            expected=f"families among {', '.join(FAMILIES)}",
            got=", ".join(unknown),
            todo="choose some of them",
        )
    blocks = _numbers("runs", runs, at_least=MIN_BLOCKS)
    if any(number != int(number) for number in blocks):
        raise invalid_argument(
            "simulation_numbers", expected="whole numbers of runs", got=runs, todo="correct --runs"
        )
    return [
        Setting(
            family=family, level_s=level / 1e3, profile=profile, runs=int(count), planted_s=difference / 1e3
        )
        for family, level, profile, count, difference in product(
            chosen,
            _numbers("levels", levels, at_least=1e-6),
            select_profiles(profiles),
            blocks,
            _numbers("planted", planted, at_least=-1e3),
        )
    ]


def _numbers(option: str, text: str, *, at_least: float) -> Sequence[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(at_least <= number < float("inf") for number in numbers):
        raise invalid_argument(
            "simulation_numbers",
            expected=f"numbers of at least {at_least:g}, separated by commas",
            got=repr(text),
            todo=f"correct --{option}",
        )
    return numbers
