"""Chooses tokens from logits: greedy or by temperature, top-k and top-p, from counter-based random bits."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from runtime_svc.errors import logits_not_finite
from runtime_svc.ops import Allowed, Sampled, SamplingParams

Floats = npt.NDArray[np.float32]


def sample(
    logits: Floats, params: SamplingParams, step: int, *, allowed: Allowed | None = None, top: int = 0
) -> Sampled:
    """The token for `step`, with statistics of the raw `logits` (vocabulary,), which stay unchanged.

    Only `allowed` tokens are chosen from, as if there were no others; `top` as `Ops.sample` says. Raises `TreniError`
    (INTERNAL) when a logit is not finite.
    """
    best = int(logits.argmax())
    shifted = logits - logits[best]
    exps = np.exp(shifted)
    total = float(exps.sum())
    if not math.isfinite(total):
        raise logits_not_finite()
    log_total = math.log(total)
    entropy = log_total - float(np.dot(exps, shifted)) / total
    open_to, chosen = shifted, best
    if allowed is not None:
        left = _only(logits, allowed)
        chosen = int(left.argmax())
        open_to = left - left[chosen]
    if params.temperature > 0:
        chosen = _draw(open_to, params, uniform(params.seed, step))
    likely = tuple((i, float(shifted[i]) - log_total) for i in most_likely(shifted, top)) if top else ()
    logprob = float(shifted[chosen]) - log_total
    shifted[best] = -np.inf
    margin = -float(shifted.max()) if shifted.size > 1 else math.inf
    return Sampled(id=chosen, logprob=logprob, entropy=max(entropy, 0.0), margin=margin, top=likely)


def most_likely(logits: Floats, count: int) -> list[int]:
    """The ids of the `count` largest of `logits` (vocabulary,), largest first, equal ones by id; all, if fewer."""
    if count >= logits.size:
        return [int(i) for i in np.argsort(-logits, kind="stable")]
    least = np.partition(logits, logits.size - count)[logits.size - count]
    over, equal = np.flatnonzero(logits > least), np.flatnonzero(logits == least)
    ranked = over[np.argsort(-logits[over], kind="stable")]
    return [int(i) for i in (*ranked, *equal[: count - over.size])]


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


def _only(logits: Floats, allowed: Allowed) -> Floats:
    """The allowed logits, and minus infinity in the place of others."""
    bits = np.unpackbits(allowed.view(np.uint8), count=logits.size, bitorder="little")
    assert bits.any()  # who forbids everything must not ask
    return np.where(bits, logits, np.float32(-np.inf))


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
