"""Who is said to have been hurt by what, on histories written by hand."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, TypeAlias

import pytest

from matrices.arms.registry import DEFAULT
from matrices.checks import collateral
from matrices.evidence import events as ev
from matrices.planning.expected import expectation_of
from matrices.planning.plan import plan_cell
from matrices.spec.profiles import bundled_profiles
from matrices.spec.suites import load_suite

CELL = "b"
Item: TypeAlias = ev.Event | tuple[ev.Invoke, ev.Outcome]
"""An event, or the two of a request."""


def run_id(pair: int, arm: str) -> str:
    return f"{CELL}/{pair}/{arm}/0"


def invoke(pair: int, arm: str, start_s: float) -> ev.Invoke:
    return ev.Invoke(
        cell=CELL,
        pair=pair,
        arm=arm,
        run_id=run_id(pair, arm),
        request_index=pair,
        wall_time="",
        mono_s=start_s,
    )


def run(
    pair: int, arm: str, start_s: float, end_s: float, code: str = "", hop: str = "tool"
) -> tuple[ev.Invoke, ev.Outcome]:
    """A request from start to end, answered or failed with `code` at `hop`."""
    error = None
    if code:
        error = ev.RunError(code=code, kind="k", definite=False, message="", hop=hop, fault_id="")
    outcome = ev.Outcome(
        cell=CELL,
        pair=pair,
        arm=arm,
        run_id=run_id(pair, arm),
        outcome="unknown" if code else "ok",
        error=error,
        latency_s=end_s - start_s,
        ttft_s=None,
        answer=None if code else "a",
        correct=None if code else True,
        record=None,
    )
    return invoke(pair, arm, start_s), outcome


def outage(role: str, start_s: float, end_s: float) -> ev.Outage:
    arm = "internal" if role == "runtime" else "external"
    return ev.Outage(cell=CELL, role=role, arm=arm, start_s=start_s, end_s=end_s, probes_lost=3)


def restarted(role: str, died_s: float, serving_s: float) -> ev.Restarted:
    arm = "internal" if role == "runtime" else "external"
    return ev.Restarted(
        cell=CELL,
        role=role,
        arm=arm,
        death=f"{role} was killed",
        died_s=died_s,
        serving_s=serving_s,
        pid=1,
    )


def deliveries(arm: str, *faults: tuple[int, str]) -> ev.Deliveries:
    """A log of (pair, kind)."""
    rows = tuple(
        ev.Delivery(
            fault_id=f"f{pair}",
            site="tool",
            hop="tool",
            kind=kind,
            how="x",
            run_id=run_id(pair, arm),
            attempt=0,
        )
        for pair, kind in faults
    )
    return ev.Deliveries(cell=CELL, arm=arm, faults=rows)


def block(phase: Literal["start", "end"], **rss_mb: float) -> ev.Block:
    return ev.Block(cell=CELL, block=0, phase=phase, mono_s=0.0, conditions={"rss_mb": rss_mb})


def evidence(*events: Item, fatal: Collection[str] = ("f1",)) -> collateral.Evidence:
    flat = [event for item in events for event in (item if isinstance(item, tuple) else (item,))]
    return collateral.evidence_of(flat, CELL, comparison=DEFAULT.apart, fatal=fatal)


def culprits(found: collateral.Evidence, pair: int, arm: str) -> tuple[str, ...]:
    (flight,) = [flight for flight in found.flights if flight.run_id == run_id(pair, arm)]
    return collateral.culprits(flight, found)


# Pair 1 crashes the internal arm's host at about 10.5 s.
CRASHED = (
    run(1, "internal", 10.0, 10.5, "UNAVAILABLE", "agent"),
    outage("runtime", 10.45, 11.2),
    restarted("runtime", 10.51, 11.1),
    deliveries("internal", (1, "crash")),
)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"])
@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [(10.2, 10.5), (9.0, 10.46), (10.5, 12.0), (11.2, 11.3)],
)
def test_in_flight_during_the_outage_is_hurt_by_its_name(code: str, start_s: float, end_s: float) -> None:
    found = evidence(*CRASHED, run(2, "internal", start_s, end_s, code, "agent"))
    assert culprits(found, 2, "internal") == ("f1",)


@pytest.mark.parametrize(
    "other",
    [
        run(2, "internal", 10.2, 10.5),  # answered
        run(2, "internal", 10.2, 10.5, "INTERNAL", "agent"),  # no sign of a host that is gone
        run(2, "internal", 10.2, 10.5, "INVALID_ARGUMENT", "agent"),
        run(2, "internal", 9.0, 10.4, "UNAVAILABLE", "agent"),  # over before
        run(2, "internal", 11.3, 11.4, "UNAVAILABLE", "agent"),  # begun after
        run(2, "external", 10.2, 10.5, "UNAVAILABLE", "tool"),  # another host
    ],
)
def test_anything_else_has_no_culprit(other: tuple[ev.Invoke, ev.Outcome]) -> None:
    found = evidence(*CRASHED, other)
    arm = other[0].arm
    assert culprits(found, 2, arm) == ()


def test_a_fault_is_no_excuse_for_its_own_request() -> None:
    assert culprits(evidence(*CRASHED), 1, "internal") == ()


def test_a_fault_of_ones_own_explains_the_end_only_if_it_was_handed_over_and_is_fatal() -> None:
    other = run(2, "internal", 10.2, 10.5, "DEADLINE_EXCEEDED", "tool")
    cases: list[tuple[list[tuple[int, str]], list[str], tuple[str, ...]]] = [
        ([], ["f1", "f2"], ("f1",)),
        ([(2, "hang")], ["f1", "f2"], ()),
        ([(2, "hang")], ["f1"], ("f1",)),
    ]
    for own, fatal, expected in cases:
        found = evidence(*CRASHED[:3], other, deliveries("internal", (1, "crash"), *own), fatal=fatal)
        assert culprits(found, 2, "internal") == expected


def test_what_is_fatal_is_what_the_plan_expects_to_fail() -> None:
    for short, fatal in [("b01", 3), ("b02", 3), ("b03", 0), ("b04", 0)]:
        cell = plan_cell(bundled_profiles()[short], load_suite("core"), runs=12)
        ids = collateral.fatal_of(expectation_of(cell))
        assert len(ids) == fatal
        predicted = cell.prediction("internal")
        assert predicted is not None
        assert ids <= set(predicted.fault_ids)


def test_an_outage_that_no_fault_began_excuses_nobody() -> None:
    found = evidence(
        outage("runtime", 10.45, 11.2),
        run(2, "internal", 10.2, 10.5, "UNAVAILABLE", "agent"),
        deliveries("internal"),
    )
    assert culprits(found, 2, "internal") == ()


def test_a_fault_that_breaks_no_host_excuses_nobody() -> None:
    found = evidence(
        *CRASHED[:2],
        deliveries("internal", (1, "status")),
        run(2, "internal", 10.2, 10.5, "UNAVAILABLE", "agent"),
    )
    assert found.strikes == ()
    assert culprits(found, 2, "internal") == ()


@pytest.mark.parametrize(
    ("role", "hop", "hurt"),
    [("tools", "tool", True), ("tools", "model", False), ("controller", "tool", False)],
)
def test_outside_only_the_tool_hop_and_only_the_tools_host_count(role: str, hop: str, hurt: bool) -> None:
    found = evidence(
        run(1, "external", 10.0, 10.5, "UNAVAILABLE", "tool"),
        outage(role, 10.45, 11.2),
        deliveries("external", (1, "crash")),
        run(2, "external", 10.2, 10.5, "UNAVAILABLE", hop),
    )
    assert culprits(found, 2, "external") == (("f1",) if hurt else ())


def test_a_crash_of_an_abandoned_request_is_named_but_owes_nothing() -> None:
    found = evidence(
        invoke(1, "internal", 10.0),
        run(2, "internal", 10.2, 10.5, "UNAVAILABLE", "agent"),
        outage("runtime", 10.45, 11.2),
        ev.Abandon(cell=CELL, pair=1, run_ids=(run_id(1, "internal"),)),
        deliveries("internal", (1, "crash")),
        # The outage of a later start of the harness is not the abandoned request's.
        outage("runtime", 20.0, 21.0),
        run(3, "internal", 20.1, 20.2, "UNAVAILABLE", "agent"),
    )
    assert culprits(found, 2, "internal") == ("f1",)
    assert culprits(found, 3, "internal") == ()
    assert collateral.unaccounted(found) == ()
    row, _ = collateral.by_arm(found)
    assert (row.faults, row.hurt, row.recovery_max_s) == (0, 1, None)


def test_a_crash_and_a_restart_answer_for_each_other() -> None:
    assert collateral.unaccounted(evidence(*CRASHED)) == ()
    without = [item for item in CRASHED if not isinstance(item, ev.Restarted)]
    (said,) = collateral.unaccounted(evidence(*without))
    assert "f1" in said
    (said,) = collateral.unaccounted(evidence(*CRASHED[:3], deliveries("internal")))
    assert "no crash" in said
    (said,) = collateral.unaccounted(evidence(*CRASHED[:3], deliveries("internal", (1, "hang"))))
    assert "no crash" in said
    (said,) = collateral.unaccounted(
        evidence(*CRASHED, restarted("runtime", 30.0, 31.0), outage("runtime", 29.9, 31.0))
    )
    assert "no crash" in said


def test_two_crashes_at_once_share_a_restart() -> None:
    found = evidence(
        run(1, "internal", 10.0, 10.5, "UNAVAILABLE", "agent"),
        run(2, "internal", 10.1, 10.5, "UNAVAILABLE", "agent"),
        *CRASHED[1:3],
        deliveries("internal", (1, "crash"), (2, "crash")),
    )
    assert collateral.unaccounted(found) == ()


def test_each_harm_and_the_rows_of_the_arms() -> None:
    found = evidence(
        ev.CellStarted(
            cell=CELL,
            profile="b",
            arms=("internal", "external"),
            epoch=0,
            segment=0,
            start_counter={},
            pids={},
        ),
        block("start", runtime=100.0, tools=50.0),
        *CRASHED,
        run(2, "internal", 10.2, 10.5, "UNAVAILABLE", "agent"),
        run(3, "internal", 10.3, 11.5),  # late, but answered
        run(4, "internal", 12.0, 12.4),  # not there
        # A second crash, seconds later; its request overlaps the first outage too, and is not its cause.
        run(5, "external", 11.0, 13.0, "UNAVAILABLE", "tool"),
        outage("tools", 10.9, 11.1),
        outage("tools", 12.9, 13.4),
        outage("controller", 12.95, 13.05),
        deliveries("external", (5, "crash"), (6, "leak")),
        run(6, "external", 20.0, 20.4),
        run(7, "external", 20.2, 20.6),
        block("end", runtime=90.0, tools=82.0),
    )
    first, second, leak = collateral.harms(found)
    assert (first.strike.fault_id, first.in_flight, first.hurt) == ("f1", 2, (run_id(2, "internal"),))
    assert first.recovery_s == pytest.approx(0.75)
    assert first.roles == {"runtime": pytest.approx(0.75)}
    assert (second.in_flight, second.hurt) == (0, ())
    assert second.roles == {"tools": pytest.approx(0.5), "controller": pytest.approx(0.1)}
    assert (leak.recovery_s, leak.roles, leak.in_flight, leak.hurt) == (None, {}, 1, ())
    internal, external = collateral.by_arm(found)
    assert (internal.faults, internal.in_flight, internal.hurt) == (1, 2, 1)
    assert internal.recovery_median_s == internal.recovery_max_s == pytest.approx(0.75)
    assert (external.faults, external.in_flight, external.hurt) == (2, 1, 0)
    assert external.recovery_max_s == pytest.approx(0.5)
    assert (internal.host_grown_mb, external.host_grown_mb) == (0.0, 32.0)


def test_growth_is_counted_within_one_start() -> None:
    start = ev.CellStarted(
        cell=CELL, profile="b", arms=("internal", "external"), epoch=0, segment=0, start_counter={}, pids={}
    )
    found = evidence(
        start, block("start", tools=50.0), block("end", tools=70.0), start, block("start", tools=40.0),
        block("end", tools=95.0),
    )  # fmt: skip
    assert found.grown_mb == {"tools": 55.0}
