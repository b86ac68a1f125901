"""`treni-route compare`: did two campaigns do the same, in what time, and what were they configured differently in?"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from matrices.cli import output
from matrices.evidence.agreement import (
    NEAR_TIE,
    ArmAgreement,
    Difference,
    cell_agreement,
    plans_differ,
    refuse_other_plans,
)
from matrices.evidence.campaign import Campaign, load_campaign
from matrices.evidence.configuration import ConfigDifference, configuration_differences
from matrices.evidence.history import History, state_of
from matrices.evidence.manifest import Manifest
from matrices.report.between import ArmBetween, Between, CellBetween, between
from matrices.report.formats import interval, ms, number
from matrices.report.judged import judged_campaign
from matrices.statistics.between import Change
from treni import entry
from treni.errors import TreniError

_SHOWN = 20
_QUOTED = 60
_FOLDER = click.Path(path_type=Path)

_HEADINGS = ("cell", "arm", "runs", "errors", "retries", "near ties", "different", "so")
_LEGEND = (
    "errors, retries: in the first / in the second campaign. A run is different where the two did another thing;\n"
    "a near tie is a difference that a token drawn between two nearly equal ones explains."
)
_LATENCY_HEADINGS = ("cell", "what", "first", "second", "second against first")
_LATENCY_LEGEND = (
    "ratio: of the arms, without the waits that the plan fixes, and its change with a 90 % interval; an arm's latency\n"
    "in ms, and its difference with CI95."
)
_CONFIG_HEADINGS = ("cell", "key", "first", "second")

_EPILOG = """\b
Examples:
  treni-route compare results/on-the-cpu results/on-the-gpu
  treni-route compare results/yesterday results/today --near-tie 0

\b
Exit status: 0 every run did the same; 1 one did not; 2 usage, or the plans are not the same: what of them can be
compared is shown all the same. Times decide nothing here: `treni-route gate` judges them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compared:
    """All that is said of two campaigns; `left_out` has what could not be compared, by cell ("" for all) and why."""

    arms: tuple[ArmAgreement, ...]
    times: Between
    configuration: tuple[ConfigDifference, ...]
    left_out: tuple[tuple[str, str], ...]


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
    """Say whether the campaigns in the folders FIRST and SECOND did the same, in what time, and how they differ.

    Run by run compared are tool calls with their arguments, answers, outcomes, attempts and tokens. Times are shown
    with the interval of their difference, as far as the campaigns' conditions allow, and keys of the manifests that
    differ. Of campaigns that were planned differently what they have in common is compared.
    """
    found = _compared(load_campaign(first), load_campaign(second))
    different = _different(found.arms, near_tie)
    if form == "json":
        output.say_json(_as_json(found, near_tie))
    else:
        _print(found, different, near_tie)
    for cell, why in found.left_out:
        entry.note(f"not compared: {cell or 'the plans'}: {why}")
    sys.exit(2 if found.left_out else 1 if different else 0)


def _compared(
    before: tuple[Campaign, Manifest, History], after: tuple[Campaign, Manifest, History]
) -> _Compared:
    left_out: list[tuple[str, str]] = []
    try:
        refuse_other_plans(before[1], after[1])
        if before[0].suite.tasks != after[0].suite.tasks:
            raise plans_differ("the same tasks", "others in the second")
    except TreniError as error:
        left_out.append(("", f"expected {error.expected}; got {error.got}"))
    times = between(
        *(
            judged_campaign(manifest, history.events, campaign.expectations)
            for campaign, manifest, history in (before, after)
        )
    )
    left_out += times.left_out
    states = [state_of(history.events) for _, _, history in (before, after)]
    arms: list[ArmAgreement] = []
    for cell in times.cells:
        try:
            arms += cell_agreement(cell.cell, *(of[cell.cell] for of in states))
        except TreniError as error:  # other pairs were completed
            left_out.append((cell.cell, f"expected {error.expected}; got {error.got}"))
    return _Compared(
        arms=tuple(arms),
        times=times,
        configuration=configuration_differences(before[1], after[1]),
        left_out=tuple(left_out),
    )


def _print(found: _Compared, different: Sequence[Difference], near_tie: float) -> None:
    output.say(output.table(_HEADINGS, [_row(arm, near_tie) for arm in found.arms], right=range(2, 7)))
    output.say(f"\n{_LEGEND}\n\n")
    rows = [row for cell in found.times.cells for row in _time_rows(cell)]
    output.say(output.table(_LATENCY_HEADINGS, rows, right=(2, 3)))
    output.say(f"\n{_LATENCY_LEGEND}\n{_conditions(found.times)}\n\n")
    if found.configuration:
        keys = [(one.cell or "-", one.key, _cut(one.first), _cut(one.second)) for one in found.configuration]
        output.say(output.table(_CONFIG_HEADINGS, keys))
    else:
        output.say("The campaigns were configured alike.\n")
    for one in different[:_SHOWN]:
        margin = "no record" if one.margin is None else f"smallest margin {one.margin:.3g}"
        entry.note(
            f"{one.cell} {one.task_id} {one.arm}: {one.aspect} {_quoted(one.first)} and "
            f"{_quoted(one.second)} ({margin})"
        )
    if len(different) > _SHOWN:
        entry.note(f"... and {len(different) - _SHOWN} more")


def _time_rows(cell: CellBetween) -> list[tuple[str, ...]]:
    change = cell.change
    said = (
        cell.unavailable
        if change is None
        else f"{_percent(change.value)} [{_percent(change.low)}, {_percent(change.high)}]"
    )
    ratios = tuple(number(one, 3) for one in cell.ratios)
    return [
        (cell.cell, "ratio", *ratios, said),
        *(
            (
                cell.cell,
                arm.arm,
                *(ms(one, 1) for one in arm.means_s),
                "too few pairs for an interval" if arm.difference is None else interval(arm.difference),
            )
            for arm in cell.arms
        ),
    ]


def _conditions(times: Between) -> str:
    if times.conditions:
        return (
            "Conditions were not the same, so that latencies are not comparable, and of the ratio only what slows both "
            f"arms alike cancels: {'; '.join(times.conditions)}."
        )
    return "No difference of conditions is known; all the same only the ratio is measured within one day's conditions."


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


def _as_json(found: _Compared, near_tie: float) -> list[dict[str, Any]]:
    """An entry for each arm of each cell that both campaigns have, with all that is said of it."""
    times = {(cell.cell, arm.arm): (cell, arm) for cell in found.times.cells for arm in cell.arms}
    entries = []
    for arm in found.arms:
        cell, both = times[arm.cell, arm.arm]
        entries.append(
            {
                **dataclasses.asdict(arm),
                "differences": [
                    {**dataclasses.asdict(one), "near_tie": one.is_near_tie(near_tie)}
                    for one in arm.differences
                ],
                "latency": _latency(both),
                "ratio": {"first": cell.ratios[0], "second": cell.ratios[1], "change": _change(cell.change)},
                "conditions_differ": list(found.times.conditions),
                "configuration": [
                    dataclasses.asdict(one) for one in found.configuration if one.cell in ("", arm.cell)
                ],
            }
        )
    return entries


def _latency(arm: ArmBetween) -> dict[str, Any]:
    difference = arm.difference
    return {
        "first_s": arm.means_s[0],
        "second_s": arm.means_s[1],
        "difference_s": None
        if difference is None
        else {
            "value": difference.value,
            "low": _end(difference.low),
            "high": _end(difference.high),
            "confidence": difference.confidence,
        },
    }


def _change(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "value": change.value,
        "low": change.low,
        "high": change.high,
        "confidence": change.confidence,
        "pairs": change.pairs,
        "blocks": change.blocks,
    }


def _end(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _different(arms: Sequence[ArmAgreement], near_tie: float) -> list[Difference]:
    return [one for arm in arms for one in arm.differences if not one.is_near_tie(near_tie)]


def _sides(both: tuple[int, int]) -> str:
    return f"{both[0]} / {both[1]}"


def _percent(factor: float) -> str:
    return f"{number((factor - 1) * 100, 1, sign=True)} %"


def _quoted(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "..."
