"""`treni-route compare`: did two campaigns of one plan do the same?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from matrices.command_line import errors
from matrices.evidence.agreement import NEAR_TIE, ArmAgreement, Difference, agreement, plans_differ
from matrices.evidence.campaign import load_campaign

_SHOWN = 20
_QUOTED = 60
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)

_EPILOG = """\b
Examples:
  treni-route compare results/on-the-cpu results/on-the-gpu
  treni-route compare results/yesterday results/today --near-tie 0

\b
Exit status: 0 every run did the same; 1 one did not; 2 usage, or the plans are not the same."""


@click.command(epilog=_EPILOG)
@click.argument("first", type=_FOLDER)
@click.argument("second", type=_FOLDER)
@click.option(
    "--near-tie",
    type=click.FloatRange(min=0),
    default=NEAR_TIE,
    show_default=True,
    help="A run that wrote something else counts as the same where it drew a token with less than this, in nats, "
    "between the best two: there rounding chooses.",
)
def compare(first: Path, second: Path, near_tie: float) -> None:
    """Say whether the campaigns in the folders FIRST and SECOND did the same, run by run.

    Compared are tool calls with their arguments, answers, outcomes, attempts and tokens, and never times: two
    campaigns do not share a machine's conditions.
    """
    with errors():
        (plan, _, before), (other, _, after) = load_campaign(first), load_campaign(second)
        if plan.suite.tasks != other.suite.tasks:
            raise plans_differ(f"the tasks of {first}", f"others in {second}")
        arms = agreement(before.events, after.events)
    click.echo("cell  arm          runs   errors  retries  near ties  different")
    for arm in arms:
        ties = sum(one.is_near_tie(near_tie) for one in arm.differences)
        click.echo(
            f"{arm.cell:6}{arm.arm:12}{arm.runs:5}  {_sides(arm.errors):>7}  {_sides(arm.retries):>7}  "
            f"{ties:9}  {len(arm.differences) - ties:9}"
        )
    different = _different(arms, near_tie)
    for one in different[:_SHOWN]:
        margin = "no record" if one.margin is None else f"smallest margin {one.margin:.3g}"
        click.echo(
            f"{one.cell} {one.task_id} {one.arm}: {one.aspect} {_quoted(one.first)} and "
            f"{_quoted(one.second)} ({margin})",
            err=True,
        )
    if len(different) > _SHOWN:
        click.echo(f"... and {len(different) - _SHOWN} more", err=True)
    sys.exit(1 if different else 0)


def _different(arms: tuple[ArmAgreement, ...], near_tie: float) -> list[Difference]:
    return [one for arm in arms for one in arm.differences if not one.is_near_tie(near_tie)]


def _sides(both: tuple[int, int]) -> str:
    return f"{both[0]} / {both[1]}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "...")
