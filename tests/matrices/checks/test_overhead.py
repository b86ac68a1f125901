"""What is mere overhead where places are far apart, whether anybody declared that or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from matrices.checks.conditions import slowness
from matrices.checks.overhead import of_overhead, seen_apart_s
from matrices.checks.tolerances import never_quiet_s
from matrices.evidence import events as ev
from matrices.evidence.history import state_of
from tests.matrices.checks.p04 import EVENTS, EXPECTATION, STARTED, changed, judge

AWAY_S = 0.06


def started(**trips_s: float) -> ev.CellStarted:
    clocks = {
        role: ev.Clock(offset_s=0.0, steady_offset_s=0.0, error_s=trip_s / 2, at_s=1.0, exchanges=32)
        for role, trip_s in trips_s.items()
    }
    return replace(STARTED, clocks=clocks)


@pytest.mark.parametrize(
    ("trips_s", "apart_s"),
    [
        ({}, 0.0),
        ({"agent": 0.004, "tools": 0.009}, 0.0),  # one busy machine
        ({"agent": AWAY_S, "controller": 0.001, "tools": 0.0005}, AWAY_S + 0.001),
        ({"agent": AWAY_S, "controller": 0.05, "tools": 0.001}, AWAY_S + 0.05),
    ],
)
def test_two_places_are_as_far_apart_as_the_two_farthest_from_the_harness(
    trips_s: dict[str, float], apart_s: float
) -> None:
    assert seen_apart_s([started(), started(**trips_s)]) == pytest.approx(apart_s)
    assert seen_apart_s([]) == 0.0


def test_a_way_that_was_seen_to_be_long_is_no_overhead() -> None:
    far = changed(
        lambda event: replace(event, latency_s=event.latency_s + AWAY_S), type="outcome", arm="external"
    )
    runs = {pair: by_arm["external"] for pair, by_arm in judge(far).runs.items()}
    near = {pair: by_arm["external"] for pair, by_arm in judge(EVENTS).runs.items()}
    assert [finding.kind for finding in of_overhead("external", runs, EXPECTATION, 1)] == [
        "overhead_unlikely"
    ]
    assert list(of_overhead("external", runs, EXPECTATION, 1, apart_s=AWAY_S)) == []
    assert list(of_overhead("external", near, EXPECTATION, 1)) == []


def test_the_whole_check_goes_by_what_the_clocks_saw() -> None:
    far = changed(
        lambda event: replace(event, latency_s=event.latency_s + AWAY_S), type="outcome", arm="external"
    )
    kinds = {finding.kind for finding in judge(far).findings}
    seen = [started(agent=AWAY_S, tools=0.001) if event is STARTED else event for event in far]
    assert kinds - {finding.kind for finding in judge(seen).findings} == {"overhead_unlikely"}


@pytest.mark.parametrize(
    ("other", "steal", "times"),
    [(0.0, 0.0, 1), (0.7, 0.05, 1), (0.85, 0.05, 10), (0.5, 0.3, 5), (1.0, 0.9, 50)],
)
def test_limits_are_wider_only_where_others_left_less_than_was_measured_with(
    other: float, steal: float, times: float
) -> None:
    conditions = {"other_cpu_fraction": other, "steal_fraction": steal}
    events = [
        replace(event, conditions={**event.conditions, **conditions})
        if isinstance(event, ev.Block)
        else event
        for event in EVENTS
    ]
    (state,) = state_of(events).values()
    found = slowness(state)
    assert found == ({} if times == 1 else pytest.approx(dict.fromkeys(state.blocks, times)))
    assert slowness(None) == {}


def test_a_starved_cell_has_ways_as_long_as_that_and_a_calm_one_has_not() -> None:
    late = changed(
        lambda event: replace(event, latency_s=event.latency_s + 0.3), type="outcome", arm="external"
    )
    starved = [
        replace(event, conditions={**event.conditions, "other_cpu_fraction": 0.9})
        if isinstance(event, ev.Block)
        else event
        for event in late
    ]
    calm = {finding.kind for finding in judge(late).findings}
    assert calm - {finding.kind for finding in judge(starved).findings} == {"overhead_unlikely"}
    assert judge(starved).contaminated


def test_one_slow_block_makes_the_overhead_of_the_others_no_likelier() -> None:
    late = changed(
        lambda event: replace(event, latency_s=event.latency_s + 0.3), type="outcome", arm="external"
    )
    first = next(event.block for event in late if isinstance(event, ev.Block))
    starved = [
        replace(event, conditions={**event.conditions, "other_cpu_fraction": 0.97})
        if isinstance(event, ev.Block) and event.block == first
        else event
        for event in late
    ]
    assert "overhead_unlikely" in {finding.kind for finding in judge(starved).findings}


@pytest.mark.parametrize(
    ("overheads", "least_s"),
    [
        ([(0.3, 1.0)] * 4, 0.3),
        ([(0.3, 1.0)] * 3, None),
        ([(0.3, 1.0)] * 3 + [(0.03, 1.0)], None),
        ([(0.3, 1.0)] * 4 + [(0.3, 50.0)] * 4, 0.3),
        ([(0.3, 1.0)] * 3 + [(0.3, 10.0)], None),
        ([(0.9, 10.0)] * 4, 0.9),
    ],
)
def test_the_least_overhead_is_that_of_calm_times_where_there_are_enough(
    overheads: list[tuple[float, float]], least_s: float | None
) -> None:
    assert never_quiet_s(overheads, 1) == least_s


@pytest.mark.parametrize(("values", "least_s"), [(8, None), (23, None), (24, 0.3)])
def test_those_in_flight_together_are_late_together(values: int, least_s: float | None) -> None:
    assert never_quiet_s([(0.3, 1.0)] * values, 6) == least_s
