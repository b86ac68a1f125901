"""The standard error of a mean from how its blocks scatter, with and without a drift from block to block.

The block sums of the residuals are taken apart into cosines (equal-weighted cosines: Lazarus, Lewis, Stock and Watson
2018): if blocks are independent, all of them have the same mean square, apart from chance; what wanders from block to
block shows in the slow ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, fdtri

from treni.errors import invalid_argument

Array = NDArray[np.float64]

FEW_BLOCKS = 6
_LEAST_LEFT = 0.1  # of a residual's variance: what a pair keeps at least of what the model takes out
_NEGLIGIBLE = 1e-9  # of the estimate's variance: what is left of it is rounding


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Standard errors in seconds and their degrees of freedom, one entry a campaign."""

    error_s: Array
    dof: Array


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """What is seen of a drift, one entry a campaign.

    `p_value` is the probability of slow cosines as large as these if blocks are independent; `growth` by how much the
    variance grows if the difference walks at random as fast as the slow cosines say, 1 where they say nothing.
    `thirds_s` (campaigns, 3) is how far the first, second and last third of the blocks lie from the estimate,
    `third_error_s` the standard error of a third, from the fast cosines alone.
    """

    p_value: Array
    growth: Array
    thirds_s: Array
    third_error_s: Array


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spectrum:
    """Squares of the cosines of the weighted block sums (campaigns, cosines), slow ones first, and what they mean.

    `thirds_s` (campaigns, 3) are the means of the residuals in each third of the blocks. `independent` and
    `as_a_whole` (campaigns, cosines, cosines) are the covariances of the cosines for a noise of variance 1 of each
    pair, and of each block as a whole; `pairwise` and `blockwise` are the variance of the estimate under the same
    noise. `walk` is the variance of the estimate, as a multiple of `blockwise`, for a random walk of which each step
    has the variance of a block.
    """

    squares: Array
    thirds_s: Array
    independent: Array
    as_a_whole: Array
    pairwise: Array
    blockwise: Array
    walk: Array

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return int(self.squares.shape[1]) + 1


def spectrum_of(in_block: Array, weights: Array, taken: Array, residuals: Array) -> Spectrum:
    """The cosines of the block sums of `weights` times `residuals`, both (campaigns, pairs).

    `in_block` (blocks, pairs) has 1 where the pair is in the block, `taken` (campaigns, slopes, pairs) the orthonormal
    vectors that the model took out of the residuals. Each residual is scaled up by what its own pair lost to them, so
    that a pair with much influence is not a pair with little noise (Bell and McCaffrey 2002).
    """
    blocks = len(in_block)
    angles = np.pi / blocks * (np.arange(blocks) + 0.5)[:, None] * np.arange(1, blocks)
    cosines = np.sqrt(2 / blocks) * np.cos(angles)
    scaled = weights / np.sqrt(np.maximum(1.0 - (taken**2).sum(axis=1), _LEAST_LEFT))
    lost = np.swapaxes((scaled[:, None, :] * taken) @ in_block.T @ cosines, 1, 2)
    squares, totals = scaled**2 @ in_block.T, scaled @ in_block.T
    halves = cosines.T * totals[:, None, :] - lost @ (taken @ in_block.T)
    sums, shares = (scaled * residuals) @ in_block.T, weights @ in_block.T
    tails = np.cumsum(shares[:, ::-1], axis=1)
    thirds = np.array_split(np.arange(blocks), 3)
    return Spectrum(
        squares=(sums @ cosines) ** 2,
        thirds_s=np.stack([sums[:, one].sum(axis=1) / shares[:, one].sum(axis=1) for one in thirds], axis=1),
        independent=cosines.T @ (squares[:, :, None] * cosines) - lost @ np.swapaxes(lost, 1, 2),
        as_a_whole=halves @ np.swapaxes(halves, 1, 2),
        pairwise=(weights**2).sum(axis=1),
        blockwise=(shares**2).sum(axis=1),
        walk=(tails**2).sum(axis=1) / (shares**2).sum(axis=1),
    )


def independent_blocks(spectrum: Spectrum) -> Errors:
    """The errors if blocks are independent, read off the slower half of the cosines."""
    return _read_off(spectrum, max(2, spectrum.blocks // 2))


def scattering_blocks(spectrum: Spectrum) -> Errors:
    """The errors if blocks are independent, read off all cosines: how blocks scatter, wherever in time they lie."""
    return _read_off(spectrum, spectrum.blocks - 1)


def carrying_drift(spectrum: Spectrum) -> tuple[Errors, Drift]:
    """The errors if one arm may drift, and what is seen of a drift.

    Read off the slowest quarter of the cosines. Where the slow ones are larger, against the rest, than they are in
    half of all campaigns by chance (a quarter of those with few blocks), the variance is at least that of noise and
    of a random walk from the truth at the pace that explains the excess.
    """
    blocks = spectrum.blocks
    slow = max(1, blocks // 6)
    plain = _read_off(spectrum, max(2, blocks // 4))
    least = _NEGLIGIBLE * spectrum.pairwise[:, None]
    expected = np.maximum(np.diagonal(spectrum.independent, axis1=1, axis2=2), least)
    each = spectrum.squares / expected * spectrum.pairwise[:, None]
    slow_mean, fast_mean = each[:, :slow].mean(axis=1), each[:, slow:].mean(axis=1)
    ratio = np.divide(slow_mean, fast_mean, out=np.where(slow_mean > 0, np.inf, 1.0), where=fast_mean > 0)
    freedom = slow, blocks - 1 - slow
    # A walk whose steps have the variance of a block adds this to a cosine: the inverse spectrum of differences.
    adds = 1 / (4 * np.sin(np.pi * np.arange(1, blocks) / (2 * blocks)) ** 2)
    slow_adds, fast_adds = adds[:slow].mean(), adds[slow:].mean()
    excess = slow_mean / fdtri(*freedom, 0.75 if blocks < FEW_BLOCKS else 0.5)
    step = np.maximum(excess - fast_mean, 0.0) / (slow_adds - fast_adds)
    noise = fast_mean - step * fast_adds
    step = np.where(noise < 0, excess / slow_adds, step)
    walking = np.where(step > 0, np.maximum(noise, 0.0) + step * spectrum.walk, 0.0)
    variance = plain.error_s**2
    growth = np.divide(walking, variance, out=np.ones_like(variance), where=variance > 0)
    drift = Drift(
        p_value=np.asarray(fdtrc(*freedom, ratio)),
        growth=np.maximum(growth, 1.0),
        thirds_s=spectrum.thirds_s,
        third_error_s=np.sqrt(3 * fast_mean),
    )
    return Errors(np.sqrt(np.maximum(variance, walking)), plain.dof), drift


def _read_off(spectrum: Spectrum, count: int) -> Errors:
    """The errors from the `count` slowest cosines.

    Taking out means and slopes shrinks residuals, so that a plain sum of squares would be too small. The variance is
    scaled to be unbiased whether pairs are independent or blocks move as a whole (the larger correction wins), and
    the degrees of freedom are the smaller of the two by Satterthwaite (1946). One stratum, equal blocks and all
    cosines: G / (G - 1) and G - 1, the plain t on block means.
    """
    some = [one[:, :count, :count] for one in (spectrum.independent, spectrum.as_a_whole)]
    traces = [np.trace(one, axis1=1, axis2=2) for one in some]
    if (np.minimum(traces[0] / spectrum.pairwise, traces[1] / spectrum.blockwise) < _NEGLIGIBLE).any():
        raise invalid_argument(
            "difference_in_pairs",
            expected="more pairs than the strata and the orders of the campaign take to describe",
            got=f"{spectrum.blocks} blocks with nothing left to scatter",
            todo="run the suite more times",
        )
    inflation = np.maximum(spectrum.pairwise / traces[0], spectrum.blockwise / traces[1])
    dof = [trace**2 / (one**2).sum(axis=(1, 2)) for trace, one in zip(traces, some, strict=True)]
    return Errors(np.sqrt(inflation * spectrum.squares[:, :count].sum(axis=1)), np.minimum(*dof))
