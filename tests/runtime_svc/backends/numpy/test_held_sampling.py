"""Sampling that is held to allowed tokens, and the most likely ones, by the reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_svc.backends.numpy.sampler import most_likely, sample
from runtime_svc.ops import SamplingParams

SIZE = 77


def words(allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    padded = np.zeros(-(-allowed.size // 32) * 32, bool)
    padded[: allowed.size] = allowed
    return np.packbits(padded, bitorder="little").view(np.uint32)


def params(temperature: float, top_k: int = 0, top_p: float = 1.0, seed: int = 4) -> SamplingParams:
    return SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    share=st.floats(0.01, 1),
    temperature=st.sampled_from([0.0, 1e-30, 0.7, 5.0]),
    top_k=st.sampled_from([0, 1, 5, 500]),
    top_p=st.sampled_from([0.05, 0.9, 1.0]),
)
def test_only_allowed_tokens_are_drawn_as_if_there_were_no_others(
    seed: int, share: float, temperature: float, top_k: int, top_p: float
) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal(SIZE).astype(np.float32) * 30
    allowed = generator.random(SIZE) < share
    allowed[generator.integers(SIZE)] = True
    how = params(temperature, top_k, top_p)
    token = sample(logits, how, 3, allowed=words(allowed))
    left = np.flatnonzero(allowed)
    assert token.id == left[sample(logits[left], how, 3).id]
    free = sample(logits, params(0.0), 3)
    assert (token.entropy, token.margin) == (free.entropy, free.margin)
    shifted = logits.astype(np.float64) - logits.max()
    assert token.logprob == pytest.approx(shifted[token.id] - np.log(np.exp(shifted).sum()), abs=1e-4)


def test_a_token_that_is_far_from_likely_is_drawn_where_it_alone_is_allowed() -> None:
    logits = np.zeros(SIZE, np.float32)
    logits[1:] = 1000
    allowed = np.zeros(SIZE, bool)
    allowed[0] = True
    for temperature in (0.0, 0.01, 1.0):
        assert sample(logits, params(temperature), 0, allowed=words(allowed)).id == 0


def test_all_allowed_is_the_free_draw_bit_for_bit() -> None:
    logits = np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)
    for step in range(20):
        for temperature in (0.0, 1.0):
            free = sample(logits, params(temperature), step)
            assert sample(logits, params(temperature), step, allowed=words(np.ones(SIZE, bool))) == free


@given(seed=st.integers(0, 2**32), count=st.integers(1, 20), spread=st.integers(1, 40))
def test_the_most_likely_come_in_order_and_ties_by_id(seed: int, count: int, spread: int) -> None:
    logits = np.random.default_rng(seed).integers(0, spread, SIZE).astype(np.float32)
    expected = sorted(range(SIZE), key=lambda i: (-logits[i], i))[:count]
    assert most_likely(logits, count) == expected
    top = sample(logits, params(0.0), 0, top=count).top
    assert [i for i, _ in top] == expected
    assert top[0][1] == sample(logits, params(0.0), 0).logprob


def test_all_are_told_where_fewer_are_there_than_were_asked_for() -> None:
    assert len(sample(np.zeros(5, np.float32), params(0.0), 0, top=20).top) == 5
