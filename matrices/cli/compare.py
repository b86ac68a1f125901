"""`treni-route compare`: did two campaigns of one plan do the same?"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from matrices.cli import output
from matrices.evidence.agreement import (
    NEAR_TIE,
    ArmAgreement,
    Difference,
    agreement,
    plans_differ,
    refuse_other_plans,
)
from matrices.evidence.campaign import load_campaign
from treni import entry

_SHOWN = 20
_QUOTED = 60
_FOLDER = click.Path(path_type=Path)

_HEADINGS = ("cell", "arm", "runs", "errors", "retries", "near ties", "different", "so")
_LEGEND = (
    "errors, retries: in the first / in the second campaign. A run is different where the two did another thing;\n"
    "a near tie is a difference that a token drawn between two nearly equal ones explains."
)

_EPILOG = """\b
Examples:
  treni-route compare results/on-the-cpu results/on-the-gpu
  treni-route compare results/yesterday results/today --near-tie 0

\b
Exit status: 0 every run did the same; 1 one did not; 2 usage, or the plans are not the same."""


@entry.command(epilog=_EPILOG)
@click.argument("first", type=_FOLDER)
@click.argument("second", type=_FOLDER)
@click.option(
    "--near-tie",
    type=entry.FiniteRange(min=0),
    default=NEAR_TIE,
    show_default=True,
    help="A run that wrote something else counts as the same where it drew a token with less than this, in nats, "
    "between the best two: there rounding chooses.",
)
@output.format_option
def compare(first: Path, second: Path, near_tie: float, form: str) -> None:
    """Say whether the campaigns in the folders FIRST and SECOND did the same, run by run.

    Compared are tool calls with their arguments, answers, outcomes, attempts and tokens, and never times: two
    campaigns do not share a machine's conditions.
    """
    (plan, planned, before), (other, planned_too, after) = load_campaign(first), load_campaign(second)
    refuse_other_plans(planned, planned_too)
    if plan.suite.tasks != other.suite.tasks:
        raise plans_differ(f"the tasks of {first}", f"others in {second}")
    arms = agreement(before.events, after.events)
    different = _different(arms, near_tie)
    if form == "json":
        output.say_json(_as_json(arms, near_tie))
        sys.exit(1 if different else 0)
    output.say(output.table(_HEADINGS, [_row(arm, near_tie) for arm in arms], right=range(2, 7)))
    output.say(f"\n{_LEGEND}\n")
    for one in different[:_SHOWN]:
        margin = "no record" if one.margin is None else f"smallest margin {one.margin:.3g}"
        entry.note(
            f"{one.cell} {one.task_id} {one.arm}: {one.aspect} {_quoted(one.first)} and "
            f"{_quoted(one.second)} ({margin})"
        )
    if len(different) > _SHOWN:
        entry.note(f"... and {len(different) - _SHOWN} more")
    sys.exit(1 if different else 0)


def _row(arm: ArmAgreement, near_tie: float) -> tuple[str, ...]:
    ties = sum(one.is_near_tie(near_tie) for one in arm.differences)
    different = len(arm.differences) - ties
    return (
        arm.cell,
        arm.arm,
        str(arm.runs),
        _sides(arm.errors),
        _sides(arm.retries),
        str(ties),
        str(different),
        "the same" if different == 0 else "differs",
    )


def _as_json(arms: tuple[ArmAgreement, ...], near_tie: float) -> list[dict[str, Any]]:
    return [
        {
            **dataclasses.asdict(arm),
            "differences": [
                {**dataclasses.asdict(one), "near_tie": one.is_near_tie(near_tie)} for one in arm.differences
            ],
        }
        for arm in arms
    ]


def _different(arms: tuple[ArmAgreement, ...], near_tie: float) -> list[Difference]:
    return [one for arm in arms for one in arm.differences if not one.is_near_tie(near_tie)]


def _sides(both: tuple[int, int]) -> str:
    return f"{both[0]} / {both[1]}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "...")
