"""The linear model behind every interval: campaigns in as a matrix, estimates and their errors out as vectors.

One campaign is a row of seconds and one pair a column; a report fits one row, the simulation thousands at once, by the
same code. What is modelled of a pair's difference (compared minus baseline, less the waits that the plan fixes) is

* the mean of its stratum, where that is seen in `COMMON_BLOCKS` blocks or more; rarer strata share one mean with the
  commonest, so that a pair that is the only one of its kind still has a residual;
* an effect of who went first, in proportion to the time that both arms took;
* the work that a run leaves out when the plan ends it with an error: between none of it and all of it.

The estimate is the mean of the differences without the order effect; its errors come from `block_errors`. ADR 2 has
the alternatives and their measured coverage.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from matrices.statistics.block_errors import (
    Drift,
    Errors,
    carrying_drift,
    independent_blocks,
    scattering_blocks,
    spectrum_of,
)
from treni.errors import invalid_argument

Array = NDArray[np.float64]

MIN_BLOCKS = 3
COMMON_BLOCKS = 3
COMMON_WAITS = 4
"""The number of blocks in which pairs have to wait before waiting gets an order effect of its own."""
LEAST_ORDER_SHARE = 0.25
"""The least share of pairs in either order: with fewer, its effect cannot be told from the difference."""
ORDER_EFFECT_LIMIT = 0.2
"""The share of a pair's time beyond which an order effect is none of the order."""
LONGEST_PART = 3.0
"""The multiple of the median pair that a pair counts for at most in an order effect: none decides alone."""

_NEGLIGIBLE = 1e-12  # of a sum of squares: what is left of it is rounding


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """What the plan says of each pair, one entry a pair.

    `blocks` are ranks from 0, `signs` are +1 where the compared arm goes first and -1 where the baseline does,
    `cuts` are +1 where the plan ends only the compared run with an error, -1 where only the baseline's and 0
    elsewhere. `planned_s` are the fixed waits of compared minus baseline, `shared_s` those that both arms have.
    """

    blocks: tuple[int, ...]
    strata: tuple[str, ...]
    signs: tuple[int, ...]
    cuts: tuple[int, ...]
    planned_s: tuple[float, ...]
    shared_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fit:
    """One entry a campaign: the mean difference, what its interval is made of, and the arms' means in seconds.

    `value_s` is `compared_s` minus `baseline_s`. `independent` are its errors if blocks are independent, `scattering`
    the same from the scatter of all blocks, `carried` those that carry a drift of one arm from block to block, `drift`
    what was seen of one.
    """

    value_s: Array
    baseline_s: Array
    compared_s: Array
    independent: Errors
    scattering: Errors
    carried: Errors
    drift: Drift
    blocks: int


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """Indicators (blocks, pairs) and (groups, pairs) with 1 where the pair is in that block or shares that mean."""

    in_block: Array
    in_group: Array

    def within(self, x: Array) -> Array:
        """`x` (..., pairs) without the mean of each group."""
        return np.asarray(x - (x @ self.in_group.T / self.in_group.sum(axis=1)) @ self.in_group)


@dataclass(frozen=True, slots=True, eq=False)
class _Regression:
    """Slopes within groups, and what they leave.

    `effects` (campaigns, orders) are `effect_of` (campaigns, orders, pairs) times the values, held within
    `ORDER_EFFECT_LIMIT`. `removed` (campaigns, slopes, pairs) are orthonormal vectors that span what was fitted,
    zero for none.
    """

    effects: Array
    effect_of: Array
    removed: Array
    residuals: Array


def fit(pairs: Pairs, baseline_s: Array, compared_s: Array) -> Fit:
    """Fits each row of seconds (campaigns, pairs).

    Raises INVALID_ARGUMENT (`difference_in_blocks`, `difference_in_pairs`) where there are too few of them.
    """
    design = _design(pairs.blocks, pairs.strata)
    planned, signs = np.array(pairs.planned_s), np.array(pairs.signs)
    differences = compared_s - baseline_s - planned
    # Centred on one pair first: equal differences then give a spread of exactly zero.
    offset = differences[:, :1].copy()
    differences = differences - offset
    baseline, compared = _parts(pairs, baseline_s, compared_s)
    order, model = _model(design, pairs, differences, baseline, compared)
    # Who went first also shows in the seconds that its effect is measured by: again without it.
    half = signs * model.effects[:, :, None] / 2
    order, model = _model(design, pairs, differences, baseline * (1 + half), compared * (1 - half))
    lean = order.mean(axis=2)
    weights = 1.0 / len(signs) - (lean[:, :, None] * model.effect_of).sum(axis=1)
    adjustment = (model.effects * lean).sum(axis=1)
    means = design.in_group / np.sqrt(design.in_group.sum(axis=1, keepdims=True))
    taken = np.concatenate([np.broadcast_to(means, (len(weights), *means.shape)), model.removed], axis=1)
    spectrum = spectrum_of(design.in_block, weights, taken, model.residuals)
    carried, drift = carrying_drift(spectrum)
    return Fit(
        value_s=differences.mean(axis=1) + offset[:, 0] + planned.mean() - adjustment,
        baseline_s=baseline_s.mean(axis=1) + adjustment / 2,
        compared_s=compared_s.mean(axis=1) - adjustment / 2,
        independent=independent_blocks(spectrum),
        scattering=scattering_blocks(spectrum),
        carried=carried,
        drift=drift,
        blocks=len(design.in_block),
    )


def lone_cuts(pairs: Pairs) -> tuple[str, ...]:
    """The strata of cut pairs where a single block has all of those; none where no pair or more blocks have one."""
    cut = [
        (block, name) for block, name, cut in zip(pairs.blocks, pairs.strata, pairs.cuts, strict=True) if cut
    ]
    return tuple(sorted({name for _, name in cut})) if len({block for block, _ in cut}) == 1 else ()


def _model(
    design: _Design, pairs: Pairs, differences: Array, baseline: Array, compared: Array
) -> tuple[Array, _Regression]:
    """What the order effect is in proportion to (campaigns, orders, pairs), given both arms' parts, and the fit."""
    signs = np.array(pairs.signs) * (
        min(pairs.signs.count(1), pairs.signs.count(-1)) >= LEAST_ORDER_SHARE * len(pairs.signs)
    )
    order = signs * (baseline + compared) / 2
    left_out = _left_out(pairs, baseline.sum(axis=1), compared.sum(axis=1))
    return order, _regression(design.within(differences), design.within(order), design.within(left_out))


def _regression(y: Array, z: Array, w: Array) -> _Regression:
    """`y` on the order effects `z` and on the work left out `w`, whose slope is held between 0 and 1."""
    scales = np.sqrt((z**2).sum(axis=2, keepdims=True))
    z = _quotient(z, scales)
    w_alone = w - _project(_inverse_root(z) @ z, w)
    squares = (w_alone**2).sum(axis=1, keepdims=True)
    squares[squares <= _NEGLIGIBLE * (w**2).sum(axis=1, keepdims=True)] = 0.0
    share = _quotient((w_alone * y).sum(axis=1, keepdims=True), squares)
    w_fitted = _quotient(np.where((share > 0) & (share < 1), w, 0.0), np.sqrt(squares))
    y = y - np.clip(share, 0.0, 1.0) * w
    orders = z.shape[1]
    limits = ORDER_EFFECT_LIMIT * scales[:, :, 0]
    slopes = np.concatenate([z, w_fitted[:, None, :]], axis=1)
    held = np.zeros_like(limits)
    for _ in range(orders + 1):  # an effect that is held may send the other one beyond its limit
        root = _inverse_root(slopes)
        effect_of = (root @ root @ slopes)[:, :orders]
        effects = (effect_of @ y[:, :, None])[:, :, 0]
        # An effect beyond its limit is held there and is no estimate any more: it moves with no pair, so that it
        # takes no pair's weight, and what a long pair has over it is scatter.
        beyond = np.where(np.abs(effects) > limits, np.sign(effects) * limits, 0.0)
        if not beyond.any():
            break
        held += beyond
        y = y - (beyond[:, :, None] * z).sum(axis=1)
        slopes[:, :orders][beyond != 0.0] = 0.0
    return _Regression(
        effects=_quotient(effects + held, scales[:, :, 0]),
        effect_of=_quotient(effect_of, scales),
        removed=root @ slopes,
        residuals=y - (effects[:, :, None] * z).sum(axis=1),
    )


def _parts(pairs: Pairs, baseline_s: Array, compared_s: Array) -> tuple[Array, Array]:
    """The seconds of each arm that an order effect is in proportion to, (campaigns, 1 or 2, pairs).

    Where pairs that wait are common, working and waiting are two parts: who goes first may change how fast a machine
    works and leave a timer alone. A run that hangs must not explain itself by who went first, so that an arm's work
    counts up to twice the other's, and up to `LONGEST_PART` times the median pair's.
    """
    planned, shared = np.array(pairs.planned_s), np.array(pairs.shared_s)
    waits = np.stack([shared + np.maximum(-planned, 0.0), shared + np.maximum(planned, 0.0)])[:, None, :]
    work = np.stack([baseline_s, compared_s]) - waits
    work = np.minimum(work, 2 * work[::-1])
    work = np.minimum(work, LONGEST_PART * np.median(work.mean(axis=0), axis=1)[:, None])
    is_waiting = (waits.sum(axis=(0, 1)) > 0).tolist()
    if (
        len({block for block, waiting in zip(pairs.blocks, is_waiting, strict=True) if waiting})
        < COMMON_WAITS
    ):
        parts = (work + waits)[:, :, None, :]
    else:
        parts = np.stack([work, np.broadcast_to(waits, work.shape)], axis=2)
    return parts[0], parts[1]


def _left_out(pairs: Pairs, baseline_s: Array, compared_s: Array) -> Array:
    """The difference that a cut run makes if it leaves out all of its work: what the other arm took, within reason.

    That is at most twice the longest pair that was not cut, so that a hang of the other arm is no work left out.
    """
    cuts = np.array(pairs.cuts)
    other = np.where(cuts > 0, baseline_s, compared_s)
    whole = np.minimum(baseline_s, compared_s)[:, cuts == 0]
    longest = whole.max(axis=1, keepdims=True) if whole.size else np.median(other, axis=1, keepdims=True)
    return np.asarray(-cuts * np.minimum(other, 2 * longest))


@lru_cache(maxsize=64)
def _design(blocks: tuple[int, ...], strata: tuple[str, ...]) -> _Design:
    count = len(set(blocks))
    if count < MIN_BLOCKS:
        raise invalid_argument(
            "difference_in_blocks",
            expected=f"pairs from at least {MIN_BLOCKS} blocks",
            got=f"{count}",
            todo="run the suite more times",
        )
    groups = _groups(blocks, strata)
    return _Design(
        in_block=np.array([[one == block for one in blocks] for block in range(count)], dtype=np.float64),
        in_group=np.array(
            [[one == name for one in groups] for name in sorted(set(groups))], dtype=np.float64
        ),
    )


def _groups(blocks: tuple[int, ...], strata: tuple[str, ...]) -> list[str]:
    """Which mean each pair shares: its stratum's where that is common, the commonest one's elsewhere."""
    seen: dict[str, set[int]] = defaultdict(set)
    for block, stratum in zip(blocks, strata, strict=True):
        seen[stratum].add(block)
    common = sorted(stratum for stratum, where in seen.items() if len(where) >= COMMON_BLOCKS)
    commonest = max(common, key=strata.count, default="")
    return [stratum if stratum in common else commonest for stratum in strata]


def _inverse_root(x: Array) -> Array:
    """The inverse square root of the Gram matrices of `x` (campaigns, slopes, pairs), zero where `x` has no extent."""
    values, vectors = np.linalg.eigh(x @ np.swapaxes(x, 1, 2))
    roots = np.where(values > _NEGLIGIBLE, 1 / np.sqrt(np.maximum(values, _NEGLIGIBLE)), 0.0)
    return np.asarray((vectors * roots[:, None, :]) @ np.swapaxes(vectors, 1, 2))


def _project(basis: Array, x: Array) -> Array:
    return np.asarray((np.swapaxes(basis, 1, 2) @ (basis @ x[:, :, None]))[:, :, 0])


def _quotient(x: Array, divisor: Array) -> Array:
    """`x` over `divisor`, 0 where that is 0."""
    return np.divide(x, divisor, out=np.zeros(np.broadcast_shapes(x.shape, divisor.shape)), where=divisor > 0)
