"""Faults that strike hosts, on histories written by hand: what is held against whom, and what tampering is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from chaos.faults import FaultKind, Partition, ServicePaused
from chaos.schedule import Rule, Schedule
from chaos.when import Every
from matrices.checks.check import CellJudgement, check
from matrices.checks.recovery import recovered_s
from matrices.evidence import events as ev
from matrices.planning.expectation import Expectation
from tests.matrices import faithful as f
from tests.matrices import histories as h

CELL = "p04"  # the helpers' name for a cell of any profile
OUTAGE_S = 0.3
STRUCK = 0
"""The pair whose external run is struck."""

NEAR = 1
"""A pair whose external run still lies within what the strike may have hurt, without a tool call."""

CALLING = 4
"""Another such, with a tool call."""

FAR = 44
"""A pair with a tool call, long after it."""

MANIFEST = h.manifest(h.manifest_cell(CELL, profile="p04_mixed_aggressive", site="host"), runs=12)


def campaign(kind: FaultKind, *, packets: int) -> tuple[list[ev.Event], Expectation]:
    """A cell in which the first request is struck and does what is expected of it, and each run takes half a second."""
    schedule = Schedule(
        prefix=CELL, site="host", by="request", rules=(Rule(kind=kind, when=Every(every=1), to_request=1),)
    )
    events, expected = f.campaign_cell(CELL, schedule=schedule, delay_s=0.5)
    run_id = h.run_id(CELL, STRUCK, "external")
    (invoke,) = [event for event in events if isinstance(event, ev.Invoke) and event.run_id == run_id]
    (outcome,) = [event for event in events if isinstance(event, ev.Outcome) and event.run_id == run_id]
    assert outcome.record is not None
    (first,) = [one for one in outcome.record["attempts"] if one["fault_id"]]
    struck_s = invoke.mono_s + first["start_s"] + 0.0005
    told: list[ev.Event] = [
        ev.Struck(
            cell=CELL,
            fault_id=first["fault_id"],
            run_id=run_id,
            host="host",
            roles=("tools",),
            struck_s=struck_s,
            error_s=0.0004,
        ),
        ev.Healed(
            cell=CELL,
            fault_id=first["fault_id"],
            run_id=run_id,
            host="host",
            lasted_s=OUTAGE_S,
            healed_s=struck_s + OUTAGE_S,
            back_s=struck_s + OUTAGE_S + 0.001,
            error_s=0.0004,
            packets=packets,
            pids={},
        ),
    ]
    place = events.index(outcome) + 1
    return [*events[:place], *told, *events[place:]], expected


EVENTS, EXPECTED = campaign(ServicePaused(duration_ms=300), packets=0)


def judge(events: list[ev.Event], expected: Expectation = EXPECTED) -> CellJudgement:
    """What the checker says of the cell with this history."""
    return check(MANIFEST, events, [expected])[0]


def kinds(events: list[ev.Event]) -> set[str]:
    """The kinds of what is held against it."""
    return {finding.kind for finding in judge(events).findings}


def changed(of: type[Any], change: Callable[[Any], ev.Event | None], **fields: Any) -> list[ev.Event]:
    """The history with the events of that type and with these values changed, or left out."""
    made: list[ev.Event] = []
    count = 0
    for event in EVENTS:
        if isinstance(event, of) and all(getattr(event, name) == value for name, value in fields.items()):
            count += 1
            other = change(event)
            made += [] if other is None else [other]
        else:
            made.append(event)
    assert count > 0
    return made


def attempts(pair: int, change: Callable[[list[dict[str, Any]]], None]) -> list[ev.Event]:
    """The history with the attempts of the pair's external run changed."""

    def apply(outcome: ev.Outcome) -> ev.Outcome:
        assert outcome.record is not None
        record = {**outcome.record, "attempts": [dict(one) for one in outcome.record["attempts"]]}
        change(record["attempts"])
        return replace(outcome, record=record)

    return changed(ev.Outcome, apply, pair=pair, arm="external")


def lost_once(hop: str, code: str = "UNAVAILABLE") -> Callable[[list[dict[str, Any]]], None]:
    """Has the first attempt on the hop fail, and what is there of the call made an attempt after it."""

    def change(made: list[dict[str, Any]]) -> None:
        index, one = next((index, one) for index, one in enumerate(made) if one["hop"] == hop)
        failed = {
            **one,
            "outcome": "unknown",
            "code": code,
            "kind": code.lower(),
            "detail": "it broke",
            "duration_s": 0.0,
        }
        one["attempt"] = 1
        made.insert(index, failed)

    return change


def rows(change: Callable[[list[ev.EffectRow]], list[ev.EffectRow]]) -> list[ev.Event]:
    """The history with the rows of the external arm changed."""
    return changed(
        ev.Effects,
        lambda effects: replace(effects, rows=tuple(change(list(effects.rows)))),
        arm="external",
    )


def failed(
    pair: int, *, hop: str = "tool", outcome: Literal["fail", "unknown"] = "unknown"
) -> list[ev.Event]:
    """The history with the pair's external run ended by an error at that hop, its record lost."""

    def apply(event: ev.Outcome) -> ev.Outcome:
        error = ev.RunError(
            code="UNAVAILABLE",
            kind="unavailable",
            definite=outcome == "fail",
            message="",
            hop=hop,
            fault_id="",
        )
        return replace(
            event, outcome=outcome, error=error, answer=None, correct=None, ttft_s=None, record=None
        )

    return changed(ev.Outcome, apply, pair=pair, arm="external")


def of_pair(row: ev.EffectRow, pair: int) -> bool:
    return row.run_id == h.run_id(CELL, pair, "external")


def test_a_cell_that_went_as_it_must_is_held_against_nobody() -> None:
    judged = judge(EVENTS)
    assert judged.findings == ()
    account = judged.faults["external"]
    assert len(account.planned) == 1
    assert account.planned == account.delivered == account.observed
    internal, external = judged.recoveries
    assert internal.strikes == ()
    (strike,) = external.strikes
    assert strike.detect_s == pytest.approx(0.25, abs=0.01)
    assert strike.recover_s is not None
    assert (strike.hurt, strike.errors_during, strike.errors_after) == (1, 0, 0)
    assert (external.duplicates, external.tokens_lost) == (0, 0)


def test_who_runs_into_a_struck_host_is_hurt_by_name() -> None:
    events = attempts(CALLING, lost_once("tool"))
    assert kinds(events) == set()
    assert judge(events).recoveries[1].hurt == 2
    assert kinds(failed(CALLING)) == set()
    assert judge(failed(CALLING)).recoveries[1].errors_after == 1
    # It may have been done for nobody: the row is counted, and no finding.
    assert judge(failed(CALLING)).effects["external"].phantom == 1
    assert judge(failed(CALLING)).recoveries[1].late_effects == 1
    assert kinds(rows(lambda all_: [row for row in all_ if not of_pair(row, CALLING)])) == {"effect_lost"}


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (lambda: changed(ev.Healed, lambda event: None), "fault_not_healed"),
        (lambda: changed(ev.Healed, lambda event: replace(event, lasted_s=0.1)), "fault_not_healed"),
        (
            lambda: changed(
                ev.Healed, lambda event: replace(event, lasted_s=9.0, healed_s=event.healed_s + 8.7)
            ),
            "fault_not_healed",
        ),
        (
            lambda: changed(ev.Healed, lambda event: replace(event, healed_s=event.healed_s + 9)),
            "clock_impossible",
        ),
        (
            lambda: changed(ev.Healed, lambda event: replace(event, back_s=event.back_s - 1)),
            "clock_impossible",
        ),
        (lambda: changed(ev.Healed, lambda event: replace(event, packets=3)), "fault_delivered_otherwise"),
        (lambda: changed(ev.Struck, lambda event: None), "fault_delivered_otherwise"),
        (
            lambda: changed(ev.Struck, lambda event: replace(event, roles=("runtime",))),
            "fault_delivered_otherwise",
        ),
        (lambda: changed(ev.Struck, lambda event: replace(event, fault_id="p04:x")), "fault_not_planned"),
        (
            lambda: changed(ev.Struck, lambda event: replace(event, run_id=h.run_id(CELL, FAR, "external"))),
            "fault_not_planned",
        ),
        (lambda: changed(ev.Deliveries, lambda event: replace(event, faults=())), "fault_not_delivered"),
        (
            lambda: changed(ev.Deliveries, lambda event: replace(event, faults=event.faults * 2)),
            "fault_delivered_twice",
        ),
        (
            lambda: changed(
                ev.Deliveries,
                lambda event: replace(event, faults=tuple(replace(one, hop="model") for one in event.faults)),
            ),
            "fault_delivered_otherwise",
        ),
        (lambda: attempts(STRUCK, lambda made: made[1].update(fault_id="")), "fault_not_observed"),
        (lambda: attempts(STRUCK, lambda made: made[1].update(duration_s=0.1)), "fault_not_observed"),
        (lambda: attempts(STRUCK, lambda made: made[1].update(code="UNAVAILABLE")), "fault_not_observed"),
        (lambda: attempts(FAR, lost_once("tool")), "attempt_wrong"),
        (lambda: attempts(CALLING, lost_once("model")), "attempt_unexplained"),
        (lambda: attempts(CALLING, lost_once("tool", "INTERNAL")), "attempt_unexplained"),
        (lambda: attempts(CALLING, lambda made: made[1].update(attempt=1)), "attempt_wrong"),
        (lambda: attempts(CALLING, lambda made: made[1].update(idempotency_key="k")), "attempt_wrong"),
        (lambda: attempts(CALLING, lambda made: made[1].update(fault_id="p04:y")), "attempt_wrong"),
        (lambda: failed(FAR), "error_unplanned"),
        (lambda: failed(CALLING, hop="model"), "error_unexplained"),
        (lambda: failed(CALLING, outcome="fail"), "effect_phantom"),
        (
            lambda: rows(lambda all_: [*all_, next(row for row in all_ if of_pair(row, CALLING))]),
            "effect_duplicate",
        ),
        (
            lambda: rows(
                lambda all_: [replace(row, amount=6) if of_pair(row, STRUCK) else row for row in all_]
            ),
            "effect_stranger",
        ),
        (
            lambda: rows(
                lambda all_: [replace(row, task_id="t") if of_pair(row, STRUCK) else row for row in all_]
            ),
            "effect_altered",
        ),
        (
            lambda: changed(ev.Outcome, lambda event: replace(event, answer="41"), pair=NEAR, arm="external"),
            "answer_wrong",
        ),
    ],
)
def test_what_does_not_hold_together_is_found(events: Callable[[], list[ev.Event]], kind: str) -> None:
    assert kind in kinds(events())


def test_a_link_on_which_nothing_met_the_fault_was_not_faulted() -> None:
    events, expected = campaign(Partition(duration_ms=300), packets=5)
    assert judge(events, expected).findings == ()
    events, expected = campaign(Partition(duration_ms=300), packets=0)
    assert {finding.kind for finding in judge(events, expected).findings} == {"fault_not_observed"}


def test_strikes_in_a_cell_whose_schedule_has_none_are_strays() -> None:
    plain = replace(EXPECTED, disturbs=False)
    assert "event_stray" in {finding.kind for finding in judge(EVENTS, plain).findings}


@pytest.mark.parametrize(
    ("answered", "recovered"),
    [
        ("", None),
        ("-", None),
        ("+", 1),
        ("--++", 3),
        ("+-+-++", 5),
        ("+" + "-" + 19 * "+", 1),
        ("+" + "-" + 10 * "+", 3),
        ("++-", None),
    ],
)
def test_an_arm_is_well_again_from_the_first_answer_on_after_which_it_stays_so(
    answered: str, recovered: float | None
) -> None:
    ends = [(10.0 + second, mark == "+") for second, mark in enumerate(answered, start=1)]
    assert recovered_s(ends, 10.0) == recovered
