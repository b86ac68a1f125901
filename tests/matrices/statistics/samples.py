"""Pairs of latencies for tests of the statistics: made from differences, and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from matrices.statistics.estimates import PairSample

Floats: TypeAlias = Sequence[float] | NDArray[np.float64]
Blocks: TypeAlias = Sequence[int] | NDArray[np.int_]


def samples_of(
    differences: Floats,
    blocks: Blocks,
    strata: Sequence[str] | None = None,
    base_s: float = 0.2,
    seed: int = 0,
) -> list[PairSample]:
    """Pairs with these differences around a base that varies by the task, who goes first alternating in each block."""
    bases = base_s * np.random.default_rng([seed, 7]).uniform(0.8, 1.2, len(differences))
    return [
        PairSample(
            block=int(blocks[i]),
            stratum="-" if strata is None else strata[i],
            baseline_s=float(bases[i]),
            compared_s=float(bases[i] + difference),
            planned_s=0.0,
            baseline_first=(i + int(blocks[i])) % 2 == 0,
        )
        for i, difference in enumerate(differences)
    ]


@st.composite
def campaigns(draw: st.DrawFn) -> list[PairSample]:
    """3 to 8 blocks of 2 to 5 pairs, strata common and rare, waits, cut runs; latencies of 1 ms to 2 s."""
    latency = st.integers(1, 2000).map(lambda ms: ms / 1e3)
    wait = st.sampled_from([0.0, 0.0, 0.1, 0.25])
    kind = st.sampled_from([("-", 0), ("-", 0), ("-", 0), ("F", 0), ("T", 0), ("F,T", 1)])
    samples = []
    for block, size in enumerate(draw(st.lists(st.integers(2, 5), min_size=3, max_size=8))):
        for _ in range(size):
            stratum, cut = draw(kind)
            planned, shared = draw(wait) if stratum != "-" else 0.0, draw(wait) if stratum == "T" else 0.0
            samples.append(
                PairSample(
                    block=block,
                    stratum=stratum,
                    baseline_s=draw(latency) + shared,
                    compared_s=draw(latency) + shared + planned,
                    planned_s=planned,
                    shared_wait_s=shared,
                    baseline_first=draw(st.booleans()),
                    cut=cut,
                    compared_ok=not cut,
                )
            )
    return samples


def swapped_of(samples: Sequence[PairSample]) -> list[PairSample]:
    """The same pairs with their arms in each other's place."""
    return [
        replace(
            s,
            baseline_s=s.compared_s,
            compared_s=s.baseline_s,
            planned_s=-s.planned_s,
            baseline_first=not s.baseline_first,
            cut=-s.cut,
            baseline_ok=s.compared_ok,
            compared_ok=s.baseline_ok,
        )
        for s in samples
    ]
