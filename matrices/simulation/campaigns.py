"""Simulated campaigns of a real plan: its tasks, order, schedule and waits, with latencies that are made up.

Direct tasks take 150 to 210 ms and tool tasks 240, both arms alike, and every task has its own spread; the machine
drifts from block to block, both arms alike. The profile's schedule puts its faults where it does in a run, and the
waits are the policy's own, jitter included: each stall lasts the tool timeout, each retry waits its backoff. A request
that fails leaves out its last turn. The truth is exact: what both arms would take without noise, given all of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from chaos.faults import Struck
from matrices.planning.expected import expectation_of
from matrices.planning.plan import PlannedCell, plan_aa, plan_cell
from matrices.simulation.noise import FAMILIES, Draw, Layout
from matrices.spec.profiles import Profile
from matrices.spec.suites import load_suite
from matrices.statistics.paired_fit import Pairs
from treni.errors import invalid_argument

Array = NDArray[np.float64]

SUITE = "core"

_DIRECT_TASKS_S = np.array([0.150, 0.170, 0.190, 0.210])  # by place in the block
_TOOL_TASK_S = 0.240
_TASK_SPREAD_S = 0.012
_LAST_TURN_SHARE = 0.4  # of a task's latency: what a request that fails at its tool does not spend
_LEAST_SHARE = 0.1  # of what a request would take without noise: none ends before it begins
_MACHINE_SPREAD = 0.05  # of the latency, both arms alike
_MACHINE_MEMORY = 0.6  # correlation of one block's state of the machine with the next


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A family of noise at a level, a profile (None for the A/A cell), a number of blocks and a planted difference."""

    family: str
    level_s: float
    profile: Profile | None
    runs: int
    planted_s: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Campaigns of one plan: seconds (campaigns, pairs) and the truth of each (campaigns,).

    `answered` says of which pairs both arms answer, `without_order_s` has the same seconds (arms, campaigns, pairs)
    before who goes first changed them, None where that changes nothing. `means_s` (arms, campaigns) are the true means,
    `waits_s` (arms, pairs) what of them the plan fixes.
    """

    pairs: Pairs
    answered: NDArray[np.bool_]
    baseline_errors: int
    compared_errors: int
    baseline_s: Array
    compared_s: Array
    without_order_s: Array | None
    difference_s: Array
    ratio: Array
    means_s: Array
    waits_s: Array


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Plan:
    """A plan as arrays; `fails` and `waits_s` are (arms, pairs)."""

    pairs: Pairs
    layout: Layout
    fails: Array
    waits_s: Array


def draw(
    rng: np.random.Generator, setting: Setting, campaigns: int, plan_seed: int, disturb: Draw | None = None
) -> Batch:
    """Draws `campaigns` campaigns of one plan, which `plan_seed` decides as a campaign's seed does.

    `disturb` takes the place of the setting's family.

    Raises INVALID_ARGUMENT (`simulation_profile`) for a profile with faults whose cost is not modelled here: those that
    last longer on one machine than on another, and all that are not on the tool hop.
    """
    plan = _plan(setting.profile, setting.runs, plan_seed)
    shape = campaigns, len(plan.layout.blocks)
    disturbed = (disturb or FAMILIES[setting.family])(rng, plan.layout, shape, setting.level_s)
    base = _work(rng, plan.layout, shape) * (1 + disturbed.warm_up)
    compared = setting.profile is not None  # the A/A cell has no arm of its own kind
    truth = base * (1 - _LAST_TURN_SHARE * plan.fails[:, None, :]) + plan.waits_s[:, None, :]
    truth[1] += compared * (setting.planted_s + disturbed.own_warm_up_s)
    seconds = truth + disturbed.noise_s
    seconds[1] += compared * disturbed.one_arm_s
    seconds = np.maximum(seconds, _LEAST_SHARE * truth)
    half = disturbed.order_effect / 2 * np.array(plan.pairs.signs)
    ordered = seconds * (1 + np.stack([-half, half])[:, None, :])
    means = truth.mean(axis=2)
    return Batch(
        pairs=plan.pairs,
        answered=plan.fails.sum(axis=0) == 0,
        baseline_errors=int(plan.fails[0].sum()),
        compared_errors=int(plan.fails[1].sum()),
        baseline_s=ordered[0],
        compared_s=ordered[1],
        without_order_s=seconds if disturbed.order_effect else None,
        difference_s=means[1] - means[0],
        ratio=means[1] / means[0],
        means_s=means,
        waits_s=plan.waits_s,
    )


@lru_cache(maxsize=512)
def _plan(profile: Profile | None, runs: int, seed: int) -> _Plan:
    suite = load_suite(SUITE)
    cell = (
        plan_aa(suite, runs=runs, seed=seed)
        if profile is None
        else plan_cell(profile, suite, runs=runs, seed=seed)
    )
    _refuse_unmodelled(cell)
    arms, planned = cell.arms, expectation_of(cell).pairs
    fails = np.array([[not pair.runs[arm].ok for pair in planned] for arm in arms], dtype=np.float64)
    waits = np.array([[pair.waits_s[arm] for pair in planned] for arm in arms])
    return _Plan(
        pairs=Pairs(
            blocks=tuple(pair.block for pair in planned),
            strata=tuple(pair.stratum for pair in planned),
            signs=tuple(-1 if pair.order[0] == arms[0] else 1 for pair in planned),
            cuts=tuple((fails[1] - fails[0]).astype(int).tolist()),
            planned_s=tuple((waits[1] - waits[0]).tolist()),
            shared_s=tuple(waits.min(axis=0).tolist()),
        ),
        layout=Layout(
            blocks=np.array([pair.block for pair in planned]),
            tools=np.array([len(pair.task.calls) > 0 for pair in cell.pairs]),
        ),
        fails=fails,
        waits_s=waits,
    )


def _work(rng: np.random.Generator, layout: Layout, shape: tuple[int, int]) -> Array:
    """Seconds (campaigns, pairs) without noise and faults: the tasks, and the machine's state on them."""
    place = np.arange(shape[1]) % len(_DIRECT_TASKS_S)
    tasks = np.where(layout.tools, _TOOL_TASK_S, _DIRECT_TASKS_S[place]) + rng.normal(
        0, _TASK_SPREAD_S, shape
    )
    state = rng.normal(0, _MACHINE_SPREAD, (shape[0], layout.blocks.max() + 1))
    for block in range(1, state.shape[1]):
        state[:, block] = (
            _MACHINE_MEMORY * state[:, block - 1] + math.sqrt(1 - _MACHINE_MEMORY**2) * state[:, block]
        )
    return np.asarray(tasks * (1 + state[:, layout.blocks]))


def _refuse_unmodelled(cell: PlannedCell) -> None:
    struck = Struck(timeout_s=cell.timeouts_s["tool"])
    unknown = [kind.name for kind in cell.kinds if kind.breaks_host or not kind.ending(struck).is_exact]
    hops = cell.profile.faults.hops
    if unknown or hops != ("tool",):
        raise invalid_argument(
            "simulation_profile",
            expected="rules on the tool hop whose faults last as long as the plan says, such as status and stall",
            got=f"{', '.join(unknown) or 'rules'} on the {' and '.join(hops)} hop in {cell.profile.name}",
            todo="simulate another profile",
        )
