"""What the checker compares a cell's history with, derived from its plan. Pure."""

from __future__ import annotations

import functools

from matrices.arms.parts import replicas_of
from matrices.planning.expectation import Expectation, ExpectedPair, ExpectedRun
from matrices.planning.plan import SIDE_EFFECT_TOOLS, PlannedCell, PlannedPair, policy_of
from matrices.planning.trace import Terms, expected_run
from tools_svc.registry import TOOLS


def expectation_of(cell: PlannedCell) -> Expectation:
    """The runs that follow from the cell's plan, its schedules and its policy."""
    predictions = {arm: cell.prediction(arm) for arm in cell.arms}
    policy, unrecorded_tools = policy_of(cell.profile, seed=cell.seed), _unrecorded_tools(cell)

    def run(arm: str, planned: PlannedPair) -> ExpectedRun:
        prediction = predictions[arm]
        return expected_run(
            planned.task,
            Terms(
                arm=cell.comparison.arm(arm),
                policy=policy,
                idempotency=cell.idempotency,
                side_effect_tools=SIDE_EFFECT_TOOLS,
                unrecorded_tools=unrecorded_tools,
            ),
            request_index=planned.pair,
            request=None if prediction is None else prediction.requests[planned.pair],
        )

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
                runs={arm: run(arm, planned) for arm in cell.arms},
            )
            for planned in cell.pairs
        ),
        policy=policy,
        idempotency=cell.idempotency,
        counters=cell.counters,
        breaks_hosts=cell.breaks_hosts,
        disturbs=cell.disturbs,
        standstill_s=max((kind.standstill_s for kind in cell.kinds), default=0.0),
    )


def _unrecorded_tools(cell: PlannedCell) -> tuple[str, ...]:
    """The tools called in the cell that have side effects and leave no row in the ledger."""
    called = dict.fromkeys(call.name for planned in cell.pairs for call in planned.task.calls)
    return tuple(name for name in called if name not in SIDE_EFFECT_TOOLS and _changes(name))


@functools.cache
def _changes(tool: str) -> bool:
    return tool in TOOLS and TOOLS[tool].spec.has_side_effects
