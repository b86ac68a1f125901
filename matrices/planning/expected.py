"""What the checker compares a cell's history with, derived from its plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matrices.arms.parts import replicas_of
from matrices.planning.expectation import Expectation, ExpectedPair, ExpectedRun
from matrices.planning.plan import SIDE_EFFECT_TOOLS, PlannedCell
from matrices.planning.schedules import policy_of
from matrices.planning.steps import Step
from matrices.planning.trace import Terms, expected_run
from matrices.spec.tooling import Tooling


def expectation_of(cell: PlannedCell, tooling: Tooling = Tooling()) -> Expectation:  # noqa: B008
    """The runs that follow from the cell's plan, its schedules and its policy, with the tools of the campaign."""
    policy = policy_of(cell.profile, seed=cell.seed)

    def runs(arm: str, made: Mapping[int, Sequence[Step]]) -> dict[int, ExpectedRun]:
        """The arm's runs by pair; where calls were `made` that nobody could plan, those of that run."""
        prediction = cell.prediction(arm, made)
        terms = Terms(
            arm=cell.comparison.arm(arm),
            policy=policy,
            idempotency=cell.idempotency,
            side_effect_tools=SIDE_EFFECT_TOOLS,
            unrecorded_tools=_unrecorded_tools(cell, made, tooling),
        )
        return {
            planned.pair: expected_run(
                planned.task,
                terms,
                request_index=planned.pair,
                request=None if prediction is None else prediction.requests[planned.pair],
                made=made.get(planned.pair),
            )
            for planned in cell.pairs
        }

    planned_runs = {arm: runs(arm, {}) for arm in cell.arms}

    return Expectation(
        cell=cell.name,
        comparison=cell.comparison,
        roles=frozenset(cell.parts),
        answering={arm.name: replicas_of(arm.agent, cell.parts) for arm in cell.comparison},
        pairs=tuple(
            ExpectedPair(
                pair=planned.pair,
                block=planned.block,
                task=planned.task,
                stratum=planned.stratum,
                segment=planned.segment,
                order=planned.order,
                runs={arm: planned_runs[arm][planned.pair] for arm in cell.arms},
            )
            for planned in cell.pairs
        ),
        policy=policy,
        idempotency=cell.idempotency,
        counters=cell.counters,
        breaks_hosts=cell.breaks_hosts,
        disturbs=cell.disturbs,
        standstill_s=max((kind.standstill_s for kind in cell.kinds), default=0.0),
        uncounted=_unrecorded_tools(cell, {}, tooling),
        foreign=tooling.foreign,
        following=runs,
    )


def _unrecorded_tools(
    cell: PlannedCell, made: Mapping[int, Sequence[Step]], tooling: Tooling
) -> tuple[str, ...]:
    """The tools called in the cell that have side effects and leave no row in the ledger."""
    called = dict.fromkeys(
        [call.name for planned in cell.pairs for call in planned.task.calls]
        + [step.call.name for steps in made.values() for step in steps if step.call is not None]
    )
    return tuple(name for name in called if name not in SIDE_EFFECT_TOOLS and tooling.changes(name))
