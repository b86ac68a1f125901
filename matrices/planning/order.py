"""Who goes first in each pair: drawn by a seed, and balanced whatever the number of pairs.

Within a block the pairs are matched two and two, and the two go in opposite orders, so that no block leans by more
than one pair. Which of the two takes which order is decided so that strata, classes (a stratum's pairs with the same
number of tool calls) and tasks (each in both orders over its repeats) lean by no more than one either: a seeded
greedy start, exchanges while they help, and another start where something still leans. Minimisation of this kind is
Pocock and Simon's (1975), *Sequential treatment assignment with balancing for prognostic factors*.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

SWEEPS = 8
STARTS = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What is balanced about one pair: its block, the faults planned on it, its number of tool calls and its task."""

    block: int
    stratum: str
    calls: int
    task: str

    @property
    def groups(self) -> tuple[Hashable, ...]:
        """The sets of pairs that it counts in, apart from its block."""
        return "all", ("stratum", self.stratum), ("class", self.stratum, self.calls), ("task", self.task)


def baseline_first(places: Sequence[Place], seed: int) -> tuple[bool, ...]:
    """For each place whether the baseline arm goes first; the same for the same places and seed."""
    rng = random.Random(f"order/{seed}")
    best = _Order(places, rng)
    for _ in range(STARTS - 1):
        if best.excess == 0:
            break
        other = _Order(places, rng)
        best = other if other.excess < best.excess else best
    return tuple(sign > 0 for sign in best.signs)


class _Order:
    """One seeded start, improved while exchanges help. `signs` has +1 where the baseline goes first, else -1."""

    def __init__(self, places: Sequence[Place], rng: random.Random) -> None:
        self._groups = [place.groups for place in places]
        self._leaning: dict[Hashable, int] = defaultdict(int)
        self._rng = rng
        self.signs = [0] * len(places)
        couples = _couples(places, rng)
        for couple in couples:
            self._decide(couple)
        for _ in range(SWEEPS):
            moved = 0
            for couple in rng.sample(couples, len(couples)):
                moved += self._reconsider(couple)
            if not moved:
                break

    @property
    def excess(self) -> int:
        """By how many pairs the groups lean beyond the one that an odd number cannot avoid, summed."""
        return sum(max(0, abs(lean) - 1) for lean in self._leaning.values())

    def _reconsider(self, couple: Sequence[int]) -> bool:
        before = self.signs[couple[0]]
        self._give(couple, 0)
        self._decide(couple)
        return self.signs[couple[0]] != before

    def _decide(self, couple: Sequence[int]) -> None:
        """The direction in which the couple's groups lean least; at a tie the draw decides."""
        touched = {group for index in couple for group in self._groups[index]}
        costs = {}
        for direction in (1, -1):
            self._give(couple, direction)
            costs[direction] = sum(self._leaning[group] ** 2 for group in touched)
        self._give(couple, self._rng.choice([one for one in (1, -1) if costs[one] == min(costs.values())]))

    def _give(self, couple: Sequence[int], direction: int) -> None:
        for index, sign in zip(couple, (direction, -direction), strict=False):
            for group in self._groups[index]:
                self._leaning[group] += sign - self.signs[index]
            self.signs[index] = sign


def _couples(places: Sequence[Place], rng: random.Random) -> list[tuple[int, ...]]:
    """The pairs of each block matched two and two, like with like as far as possible; an odd one is left alone."""
    blocks: dict[int, list[int]] = defaultdict(list)
    for index in rng.sample(range(len(places)), len(places)):
        blocks[places[index].block].append(index)
    couples: list[tuple[int, ...]] = []
    for block in sorted(blocks):
        alike: dict[Hashable, list[int]] = defaultdict(list)
        for index in blocks[block]:
            alike[places[index].stratum, places[index].calls].append(index)
        left: list[int] = []
        for like in alike.values():
            couples += [(like[i], like[i + 1]) for i in range(0, len(like) - 1, 2)]
            left += like[len(like) - len(like) % 2 :]
        couples += [tuple(left[i : i + 2]) for i in range(0, len(left), 2)]
    return couples
