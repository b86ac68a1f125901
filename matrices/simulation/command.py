"""`treni-route simulate`: the tables of coverage and of wrong verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import click

from matrices.simulation.campaigns import Setting
from matrices.simulation.measure import measure
from matrices.simulation.noise import FAMILIES
from matrices.simulation.tables import full_table, summary
from matrices.spec.profiles import select_profiles
from matrices.statistics.paired_fit import MIN_BLOCKS
from treni import entry
from treni.errors import invalid_argument

LEVELS_MS = "0.4,1,8,40"
RUNS = "3,6,12,24"
PROFILES = "p00,p01,p03,p04,p04t"
PLANTED_MS = "0,20"


@entry.command(name="simulate")
@click.option("--families", default=",".join(FAMILIES), show_default=True, help="Kinds of noise.")
@click.option("--levels", default=LEVELS_MS, show_default=True, help="Noise of a pair's difference, in ms.")
@click.option("--runs", default=RUNS, show_default=True, help="Blocks of four pairs.")
@click.option("--profiles", default=PROFILES, show_default=True, help="A selection of profiles.")
@click.option("--planted", default=PLANTED_MS, show_default=True, help="Differences of the arms, in ms.")
@click.option(
    "--campaigns",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="For each row; under 1,000 chance alone breaks limits.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the noise.")
@click.option("--full", is_flag=True, help="Every row instead of the tables by family, level and runs.")
def main(
    families: str,
    levels: str,
    runs: str,
    profiles: str,
    planted: str,
    campaigns: int,
    seed: int,
    full: bool,
) -> None:
    """Measures how often intervals cover a planted truth and what verdicts say of it.

    Exits with 1 where a row is out of limits.
    """
    settings = _settings(families, levels, runs, profiles, planted)
    rows = [measure(setting, campaigns, seed) for setting in settings]
    click.echo(full_table(rows) if full else summary(rows))
    if any(row.faults for row in rows):
        raise click.exceptions.Exit(1)


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
