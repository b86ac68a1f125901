"""What disturbs a simulated campaign: families of noise, each of them a way in which a real machine is not normal.

`level_s` is the scale of a pair's noise: the standard deviation of the difference of the two arms' noise where it has
one. A family's function draws for `shape` = (campaigns, pairs).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ORDER_EFFECT = 0.03  # of a request's time: the first arm takes half of it more, the second half of it less
DRIFT_MEMORY = 0.7  # correlation of one block's drift with the next
WARM_UP = 0.25  # of a request's time, in the first block
WARM_UP_BLOCKS = 2.0  # in so many blocks it falls to 37 %
PAUSE_RATE = 0.15  # of the pairs
PAUSE_LEVELS = 10.0  # the mean of a pause


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What a family may know of the plan: which block each pair is in, and whether it calls a tool."""

    blocks: NDArray[np.intp]
    tools: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """Noise of both arms (2, campaigns, pairs) in seconds, and what is more than noise.

    `one_arm_s` (campaigns, pairs) is a drift of the compared arm, which has mean zero and is no part of the truth;
    `warm_up` (pairs,) the share by which both arms are slower, `own_warm_up_s` (pairs,) what of it is the compared
    arm's own: both are part of the truth. `order_effect` is the share by which who goes first changes a request's time.
    """

    noise_s: Array
    one_arm_s: Array | float = 0.0
    warm_up: Array | float = 0.0
    own_warm_up_s: Array | float = 0.0
    order_effect: float = 0.0


Draw: TypeAlias = Callable[[np.random.Generator, Layout, tuple[int, int], float], Disturbance]
Unit: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _student(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_t(3, shape) / math.sqrt(3)


def _heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_t(2.1, shape) / 2


def _lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return (rng.lognormal(0, 1, shape) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)


def _bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One request in five takes a slow path."""
    return np.where(rng.random(shape) < 0.2, 1.9, -0.475) + 0.3 * rng.standard_normal(shape)


def _only_noise(unit: Unit) -> Draw:
    def draw(rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float) -> Disturbance:
        return Disturbance(noise_s=level_s / math.sqrt(2) * unit(rng, (2, *shape)))

    return draw


def _within_blocks(
    rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float
) -> Disturbance:
    """One request's noise goes on in the next one of its block."""
    noise = rng.standard_normal((2, *shape))
    for pair in range(1, shape[1]):
        if layout.blocks[pair] == layout.blocks[pair - 1]:
            noise[:, :, pair] = _next(noise[:, :, pair - 1], noise[:, :, pair])
    return Disturbance(noise_s=level_s / math.sqrt(2) * noise)


def _whole_blocks(
    rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float
) -> Disturbance:
    """The compared arm of a whole block moves together, each block on its own."""
    noise = _student(rng, (2, *shape)) / math.sqrt(2)
    noise[1] += rng.standard_normal((shape[0], layout.blocks.max() + 1))[:, layout.blocks]
    return Disturbance(noise_s=level_s * noise)


def _noisy_tools(
    rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float
) -> Disturbance:
    """Requests that call a tool are five times as noisy."""
    noise = _student(rng, (2, *shape)) * np.where(layout.tools, 5.0, 1.0)
    return Disturbance(noise_s=level_s / math.sqrt(2) * noise)


def _pauses(rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float) -> Disturbance:
    """Long pauses hit one arm of some pairs, either arm alike."""
    noise = rng.standard_normal((2, *shape)) / math.sqrt(2)
    pauses = rng.exponential(PAUSE_LEVELS, shape) * (rng.random(shape) < PAUSE_RATE)
    compared = rng.random(shape) < 0.5
    return Disturbance(noise_s=level_s * (noise + np.stack([pauses * ~compared, pauses * compared])))


def _order(rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float) -> Disturbance:
    """Who goes first takes longer, in proportion."""
    noise = level_s / math.sqrt(2) * _student(rng, (2, *shape))
    return Disturbance(noise_s=noise, order_effect=ORDER_EFFECT)


def _warm_up(rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float) -> Disturbance:
    """The first blocks are slower, and the compared arm has a part in it of its own."""
    fading = np.exp(-layout.blocks / WARM_UP_BLOCKS)
    return Disturbance(
        noise_s=level_s / math.sqrt(2) * _student(rng, (2, *shape)),
        warm_up=WARM_UP * fading,
        own_warm_up_s=level_s / 2 * fading,
    )


def _drift(rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float) -> Disturbance:
    """The compared arm drifts from block to block and comes back, by as much as the noise of a block."""
    drift = rng.standard_normal((shape[0], layout.blocks.max() + 1))
    for block in range(1, drift.shape[1]):
        drift[:, block] = _next(drift[:, block - 1], drift[:, block])
    return Disturbance(
        noise_s=level_s / math.sqrt(2) * _student(rng, (2, *shape)),
        one_arm_s=level_s / 2 * drift[:, layout.blocks],
    )


def _walk(rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float) -> Disturbance:
    """The compared arm walks away at random, each block by as much as the noise of one."""
    steps = rng.standard_normal((shape[0], layout.blocks.max() + 1))
    return Disturbance(
        noise_s=level_s / math.sqrt(2) * _student(rng, (2, *shape)),
        one_arm_s=level_s / 2 * np.cumsum(steps, axis=1)[:, layout.blocks],
    )


def _next(before: Array, fresh: Array) -> Array:
    return DRIFT_MEMORY * before + math.sqrt(1 - DRIFT_MEMORY**2) * fresh


FAMILIES: dict[str, Draw] = {
    "student": _only_noise(_student),
    "lognormal": _only_noise(_lognormal),
    "heavy": _only_noise(_heavy),
    "bimodal": _only_noise(_bimodal),
    "ar1": _within_blocks,
    "blocks": _whole_blocks,
    "tools": _noisy_tools,
    "pauses": _pauses,
    "order": _order,
    "warmup": _warm_up,
    "drift": _drift,
    "walk": _walk,
}
DRIFTING = frozenset({"drift", "walk"})
"""The families in which one arm drifts: few blocks cannot show it, and a refused claim is as good as a true one."""
