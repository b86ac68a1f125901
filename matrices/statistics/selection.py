"""Whether the pairs that count were selected: void pairs by stratum, by order and by how long they took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matrices.statistics.estimates import PairSample

SELECTIVE_LEVEL = 0.001
"""The probability under which void pairs that took other times than valid ones are a finding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """How many pairs of a kind are void."""

    void: int
    pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Voids:
    """Void pairs by what the plan says of them, and whether they are those in which one arm was slow.

    `by_stratum` is in order of the names; `selective_p` is the probability of differences that lie at least as far to
    one side of the valid pairs' if it were drawn which pairs are void.
    """

    baseline_first: Share
    compared_first: Share
    by_stratum: tuple[tuple[str, Share], ...]
    selective_p: float

    @property
    def total(self) -> Share:
        """All pairs, whoever went first."""
        return Share(
            void=self.baseline_first.void + self.compared_first.void,
            pairs=self.baseline_first.pairs + self.compared_first.pairs,
        )


def voids_of(void: Sequence[PairSample], valid: Sequence[PairSample]) -> Voids:
    """The account of a cell's void pairs. Pure."""
    orders = Counter(s.baseline_first for s in void), Counter(s.baseline_first for s in (*void, *valid))
    strata = Counter(s.stratum for s in void), Counter(s.stratum for s in (*void, *valid))
    return Voids(
        baseline_first=Share(void=orders[0][True], pairs=orders[1][True]),
        compared_first=Share(void=orders[0][False], pairs=orders[1][False]),
        by_stratum=tuple(
            (name, Share(void=strata[0][name], pairs=count)) for name, count in sorted(strata[1].items())
        ),
        selective_p=void_selective_p(void, valid),
    )


def void_selective_p(void: Sequence[PairSample], valid: Sequence[PairSample]) -> float:
    """Two-sided p of the void pairs' differences against the valid ones': the exact rank sum test, ties shared.

    A difference is compared minus baseline less the waits that the plan fixes: two arms that were slow alike select
    nothing. 1 where there is nothing to compare.
    """
    differences = [s.compared_s - s.baseline_s - s.planned_s for s in (*void, *valid)]
    drawn, total = len(void), len(differences)
    if not void or not valid:
        return 1.0
    ranks = _doubled_ranks(differences)
    observed = sum(ranks[:drawn])
    ways = _rank_sums(ranks, drawn)
    sums = np.arange(len(ways))
    centre = drawn * (total + 1)  # the mean of a sum of doubled ranks
    extreme = np.abs(sums - centre) >= abs(observed - centre)
    return min(1.0, float(ways[extreme].sum() / ways.sum()))


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value, from 2; equal values share the mean of theirs."""
    ordered = sorted(values)
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for rank, value in enumerate(ordered, start=1):
        first.setdefault(value, rank)
        last[value] = rank
    return [first[value] + last[value] for value in values]


def _rank_sums(ranks: Sequence[int], drawn: int) -> NDArray[np.float64]:
    """In how many of the ways to draw that many of the ranks each sum comes up, over all sums from 0."""
    ways = np.zeros((drawn + 1, sum(sorted(ranks)[-drawn:]) + 1))
    ways[0, 0] = 1.0
    for rank in ranks:
        for count in range(drawn, 0, -1):
            ways[count, rank:] += ways[count - 1, : ways.shape[1] - rank]
    sums: NDArray[np.float64] = ways[drawn]
    return sums
