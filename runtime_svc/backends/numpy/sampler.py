"""Chooses tokens from logits: greedy or by temperature, top-k and top-p, from counter-based random bits."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from runtime_svc.errors import logits_not_finite
from runtime_svc.ops import Sampled, SamplingParams

Floats = npt.NDArray[np.float32]


def sample(logits: Floats, params: SamplingParams, step: int) -> Sampled:
    """The token for `step`, with statistics of the raw `logits` (vocabulary,), which stay unchanged.

    Raises `TreniError` (INTERNAL) when a logit is not finite.
    """
    best = int(logits.argmax())
    shifted = logits - logits[best]
    exps = np.exp(shifted)
    total = float(exps.sum())
    if not math.isfinite(total):
        raise logits_not_finite()
    log_total = math.log(total)
    entropy = log_total - float(np.dot(exps, shifted)) / total
    chosen = best if params.temperature == 0 else _draw(shifted, params, uniform(params.seed, step))
    logprob = float(shifted[chosen]) - log_total
    shifted[best] = -np.inf
    margin = -float(shifted.max()) if shifted.size > 1 else math.inf
    return Sampled(id=chosen, logprob=logprob, entropy=max(entropy, 0.0), margin=margin)


def uniform(seed: int, step: int) -> float:
    """A number in [0, 1) on the grid of 2^-24, the same for the same seed and step.

    Philox 4x64-10 (Salmon et al. 2011), key = seed, counter = step. Twenty-four bits, because that is
    what a float32 holds: the largest value is 1 - 2^-24 in float32 too, never 1.
    """
    bits = int(np.random.Philox(key=seed, counter=step).random_raw()) >> 40
    return bits * 2.0**-24


def kept(scaled: Floats, params: SamplingParams) -> npt.NDArray[np.intp]:
    """Tokens that top-k and top-p leave, most likely first, equal ones by index. At least one.

    `scaled` (vocabulary,) are logits after temperature. Top-p keeps the shortest run of most likely tokens
    whose probability, of what top-k left, reaches `top_p`.
    """
    order = np.argsort(-scaled, kind="stable")
    if params.top_k > 0:
        order = order[: params.top_k]
    if params.top_p < 1:
        ranked = scaled[order].astype(np.float64)
        cumulative = np.cumsum(np.exp(ranked - ranked[0]))
        # The first rank that reaches top_p is the last one kept.
        order = order[: int(np.searchsorted(cumulative, params.top_p * cumulative[-1])) + 1]
    return order


def _draw(shifted: Floats, params: SamplingParams, u: float) -> int:
    """Inverts the cumulative distribution at `u`. A token of probability 0 is never drawn."""
    with np.errstate(
        over="ignore"
    ):  # a tiny temperature sends all but the best to minus infinity, as it should
        scaled = shifted / np.float32(params.temperature)
    if params.top_k == 0 and params.top_p >= 1:
        tokens = None
        weights = np.exp(scaled)
    else:
        tokens = kept(scaled, params)
        weights = np.exp(scaled[tokens])
    cumulative = np.cumsum(weights, dtype=np.float64)
    rank = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    return rank if tokens is None else int(tokens[rank])
