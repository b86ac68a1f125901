"""Who goes first: balanced in every block, stratum, class and task, drawn by the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.planning.order import Place, baseline_first
from matrices.planning.plan import PlannedCell, PlannedPair, plan_aa, plan_cell
from matrices.spec.profiles import bundled_profiles
from matrices.spec.suites import bundled_suites, load_suite

RUNS = (*range(1, 13), 17, 24, 36)


def _leaning(cell: PlannedCell, key: Callable[[PlannedPair], Hashable]) -> int:
    lean: Counter[Hashable] = Counter()
    for pair in cell.pairs:
        lean[key(pair)] += 1 if pair.order == cell.arms else -1
    return max(map(abs, lean.values()))


@pytest.mark.parametrize("suite", bundled_suites())
@pytest.mark.parametrize("profile", ["p00", "p03", "p04t", "p05"])
def test_nothing_leans_whatever_the_number_of_runs(profile: str, suite: str) -> None:
    for runs in RUNS:
        cell = plan_cell(bundled_profiles()[profile], load_suite(suite), runs=runs, seed=runs)
        assert _leaning(cell, lambda pair: "all") <= 1
        assert _leaning(cell, lambda pair: pair.block) <= 1
        assert _leaning(cell, lambda pair: pair.stratum) <= 1
        assert _leaning(cell, lambda pair: pair.task.id) <= 1
        assert _leaning(cell, lambda pair: (pair.stratum, len(pair.task.calls))) <= 2


def test_a_task_that_is_run_twice_is_run_in_both_orders() -> None:
    cell = plan_aa(load_suite("core"), runs=24, seed=3)
    assert _leaning(cell, lambda pair: pair.task.id) == 0


def test_the_seed_draws_the_order() -> None:
    suite = load_suite("core")
    one, same, other = (
        [pair.order for pair in plan_aa(suite, runs=12, seed=seed).pairs] for seed in (0, 0, 1)
    )
    assert one == same != other


def test_no_place_in_a_block_goes_first_more_often_than_chance_allows() -> None:
    """Over many seeds each place is first in about half: 4 sigma of 400 fair draws is 0.1."""
    suite = load_suite("core")
    cells = [plan_aa(suite, runs=3, seed=seed) for seed in range(400)]
    for place in range(12):
        share = sum(cell.pairs[place].order == cell.arms for cell in cells) / len(cells)
        assert abs(share - 0.5) < 0.1


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from("-FT"), st.integers(0, 2), st.sampled_from("abc")),
        max_size=40,
    ),
    st.integers(0, 2**32 - 1),
)
def test_any_pairs_are_balanced_in_their_blocks(drawn: list[tuple[int, str, int, str]], seed: int) -> None:
    places = [Place(block=b, stratum=s, calls=c, task=t) for b, s, c, t in drawn]
    first = baseline_first(places, seed)
    assert len(first) == len(places)
    lean: Counter[int] = Counter()
    for place, is_first in zip(places, first, strict=True):
        lean[place.block] += 1 if is_first else -1
    assert all(abs(value) <= 1 for value in lean.values())
