"""How often the gate is right: pairs of simulated campaigns of one plan, the second of them worse by a planted share.

The noise is a family's, or a real history's own: its blocks, drawn anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from matrices.simulation.campaigns import Batch, Setting, draw
from matrices.simulation.measure import PLANS
from matrices.simulation.noise import Disturbance, Draw, Layout
from matrices.statistics.between import change_of, log_changes, work
from matrices.statistics.estimates import TEST_LEVEL, PairSample
from matrices.statistics.paired_fit import Pairs

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateShares:
    """Shares of pairs of campaigns by what the gate said, and of those whose interval contains the truth.

    `width` is the median width of the interval, as a share of the ratio.
    """

    pairs: int
    passed: float
    regression: float
    inconclusive: float
    covered: float
    width: float


def gate_shares(
    setting: Setting, *, worse: float, margin: float, campaigns: int, seed: int, noise: Draw | None = None
) -> GateShares:
    """What the gate says of so many pairs of campaigns; in the second the compared arm's work is larger by `worse`.

    `noise` takes the place of the setting's family. Raises INVALID_ARGUMENT (`simulation_profile`) as `draw` does.
    """
    profile = "" if setting.profile is None else setting.profile.short
    label = f"{setting.family}/{setting.level_s}/{profile}/{setting.runs}/{worse}"
    said: list[str] = []
    covered: list[bool] = []
    widths: list[float] = []
    for plan, part in enumerate(np.array_split(np.arange(campaigns), PLANS)):
        if not len(part):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(label.encode()), plan])
        first, second = (
            draw(rng, setting, len(part), plan, disturb=noise),
            _worse(draw(rng, setting, len(part), plan, disturb=noise), worse),
        )
        estimates = log_changes(_plain(first.pairs), _work(first), _work(second))
        truth = _work_ratio(second) / _work_ratio(first)
        for index in range(len(part)):
            change = change_of(estimates.at(index))
            covered.append(change.low <= truth[index] <= change.high)
            widths.append(change.high - change.low)
            said.append(
                "regression"
                if change.worse_p(1 + margin) < TEST_LEVEL
                else "pass"
                if change.within_p(1 + margin) < TEST_LEVEL
                else "inconclusive"
            )
    return GateShares(
        pairs=campaigns,
        passed=said.count("pass") / campaigns,
        regression=said.count("regression") / campaigns,
        inconclusive=said.count("inconclusive") / campaigns,
        covered=float(np.mean(covered)),
        width=float(np.median(widths)),
    )


def _plain(pairs: Pairs) -> Pairs:
    """The pairs as the gate sees them: the same in both campaigns, so that order, cuts and waits say nothing."""
    nothing = (0.0,) * len(pairs.blocks)
    return replace(
        pairs, signs=(1,) * len(nothing), cuts=(0,) * len(nothing), planned_s=nothing, shared_s=nothing
    )


def _work(batch: Batch) -> tuple[Array, Array]:
    return batch.baseline_s - batch.waits_s[0], batch.compared_s - batch.waits_s[1]


def _work_ratio(batch: Batch) -> Array:
    baseline, compared = batch.means_s - batch.waits_s.mean(axis=1)[:, None]
    return np.asarray(compared / baseline)


def _worse(batch: Batch, worse: float) -> Batch:
    """The campaigns with a compared arm whose work takes a share of its true mean longer, alike in every request."""
    added = worse * (batch.means_s[1] - batch.waits_s[1].mean())
    return replace(
        batch,
        compared_s=batch.compared_s + added[:, None],
        means_s=batch.means_s + np.stack([np.zeros_like(added), added]),
    )


def noise_of(samples: Sequence[PairSample], kinds: Sequence[str]) -> Draw:
    """The noise of a history: whole blocks of it drawn with replacement, so that what went together stays together.

    The residuals are each pair's work against the mean of its kind of task and its stratum, as shares of the arm's
    mean; `level_s` is what the mean request of the simulation takes.
    """
    blocks = sorted({s.block for s in samples})
    of_block = np.array([s.block for s in samples])
    groups = [(kind, s.stratum) for kind, s in zip(kinds, samples, strict=True)]
    seconds = np.array([work(sample) for sample in samples]).T
    left = seconds.copy()
    for group in set(groups):
        places = [place for place, one in enumerate(groups) if one == group]
        left[:, places] -= seconds[:, places].mean(axis=1, keepdims=True)
    left /= seconds.mean(axis=1, keepdims=True)

    def disturb(
        rng: np.random.Generator, layout: Layout, shape: tuple[int, int], level_s: float
    ) -> Disturbance:
        noise = np.zeros((2, *shape))
        for campaign in range(shape[0]):
            for block in range(int(layout.blocks.max()) + 1):
                places = np.flatnonzero(layout.blocks == block)
                drawn = left[:, of_block == blocks[int(rng.integers(len(blocks)))]]
                noise[:, campaign, places] = drawn[:, np.arange(len(places)) % drawn.shape[1]]
        return Disturbance(noise_s=level_s * noise)

    return disturb
