"""Which of several services a request goes to: evenly, and never by a period that the tasks have too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treni.balance import chosen

COUNTS = st.integers(1, 64)


def test_of_two_it_is_the_thue_morse_sequence() -> None:
    assert [chosen(index, 2) for index in range(16)] == [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0]


@given(COUNTS, st.integers(0, 2**26))
def test_as_many_requests_in_a_row_as_there_are_services_reach_each_once(count: int, turn: int) -> None:
    assert sorted(chosen(turn * count + n, count) for n in range(count)) == list(range(count))


@given(COUNTS, st.integers(0, 2**32 - 1))
def test_every_index_that_a_request_can_have_chooses_one_that_is_there(count: int, index: int) -> None:
    assert 0 <= chosen(index, count) < count


@pytest.mark.parametrize("count", [2, 3, 4, 8])
@pytest.mark.parametrize("tasks", [2, 3, 4, 8, 48])
def test_a_task_that_comes_again_and_again_meets_every_service(count: int, tasks: int) -> None:
    for task in range(tasks):
        met = {chosen(index, count) for index in range(task, tasks * count**3, tasks)}
        assert met == set(range(count))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_each_of_the_callers_reaches_every_service(count: int) -> None:
    """As a controller chooses its tool service: by rounds, in each of which every controller has one request."""
    pairs = {(chosen(index, count), chosen(index // count, count)) for index in range(count**3)}
    assert len(pairs) == count**2
