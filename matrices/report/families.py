"""A cell's pairs by whether their tasks need a tool, and what a token takes: for arms that may work differently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matrices.checks.check import CellJudgement
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation
from matrices.report.comparison import PairedLatency, described, samples_of


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyFigures:
    """The pairs of a cell whose tasks need a tool ("tool_only"), or those that need none ("model_only").

    `comparison` is over the pairs that are not void, and has no verdict. `per_token_s` is for each arm as in
    `ArmFigures`.
    """

    name: str
    comparison: PairedLatency
    means_s: tuple[float | None, float | None]
    per_token_s: tuple[float | None, float | None]


def families_of(
    judged: CellJudgement, expected: Expectation, margin: float, *, by_segment: bool
) -> tuple[FamilyFigures, ...]:
    """The cell's pairs by whether their tasks need a tool, as far as that is told: else, whether they offer one."""
    made = []
    for name, needs in (("model_only", False), ("tool_only", True)):
        mine = {
            pair.pair
            for pair in expected.pairs
            if needs == (bool(pair.task.calls) if pair.task.told else bool(pair.task.tools))
        }
        of_family = replace(judged, runs={pair: runs for pair, runs in judged.runs.items() if pair in mine})
        if not of_family.runs:
            continue
        runs = [[by_arm[arm] for by_arm in of_family.runs.values() if arm in by_arm] for arm in expected.arms]
        means = [_mean_s(one) for one in runs]
        tokens = [per_token_s([run for run in one if run.ok]) for one in runs]
        made.append(
            FamilyFigures(
                name=name,
                comparison=described(samples_of(of_family, expected, by_segment=by_segment).valid, margin),
                means_s=(means[0], means[1]),
                per_token_s=(tokens[0], tokens[1]),
            )
        )
    return tuple(made)


def per_token_s(answered: Sequence[Run]) -> float | None:
    """Seconds of all these runs for each token that they completed, of those that tell; None of no token."""
    told = [
        (run.outcome.latency_s, run.record.usage.completion_tokens)
        for run in answered
        if run.record is not None and run.record.usage.completion_tokens > 0
    ]
    return math.fsum(one for one, _ in told) / sum(tokens for _, tokens in told) if told else None


def _mean_s(runs: Sequence[Run]) -> float | None:
    return math.fsum(run.outcome.latency_s for run in runs) / len(runs) if runs else None
