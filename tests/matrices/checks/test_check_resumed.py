"""The checker on campaigns that were interrupted and resumed: they count as uninterrupted ones do."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from matrices.checks.clock import of_clocks
from matrices.evidence import events as ev
from matrices.evidence.history import state_of
from tests.matrices import faithful as f
from tests.matrices import histories as h
from tests.matrices.checks.p04 import (
    EVENTS,
    EXPECTATION,
    EXT,
    INT,
    P04,
    RETRIED,
    STARTED,
    judge,
    outcome_of,
    where,
)


def _again(event: Any) -> Any:
    """The event of a run in the first epoch, as the run that replaced it has it."""
    if hasattr(event, "run_id"):
        return replace(event, run_id=event.run_id[: -len("/0")] + "/1", **_again_record(event))
    return event


def _again_record(event: Any) -> dict[str, Any]:
    if getattr(event, "record", None) is None:
        return {}
    attempts = [
        {**one, "idempotency_key": _key_again(one["idempotency_key"])} for one in event.record["attempts"]
    ]
    return {"record": {**event.record, "attempts": attempts}}


def _key_again(key: str) -> str:
    run_id, _, call = key.rpartition("/")
    return f"{run_id[: -len('/0')]}/1/{call}" if key else ""


def _again_row(row: Any) -> Any:
    key = getattr(row, "idempotency_key", None)
    again = replace(row, run_id=row.run_id[: -len("/0")] + "/1")
    return again if key is None else replace(again, idempotency_key=_key_again(key))


def _interrupted(cut: int) -> list[ev.Event]:
    """The history when the harness is killed after `cut` events and its campaign resumed, later by a clock."""
    if cut == 0:
        return EVENTS
    state = state_of(EVENTS[:cut])["p04"]
    resumed_at = (datetime.fromisoformat(h.WALL) + timedelta(seconds=1000)).isoformat()
    made: list[ev.Event] = [*EVENTS[:cut], ev.Resumed(wall_time=resumed_at, cut_bytes=0)]
    for pair, begun in state.begun.items():
        ids = tuple(invoke.run_id for invoke in begun.invokes.values())
        made.append(ev.Abandon(cell="p04", pair=pair, run_ids=ids))
    if state.ended is not None:
        return made
    done = set(state.completed)
    attempts = sum(
        attempt.hop == "tool"
        for pair in EXPECTATION.pairs
        if pair.pair in done
        for attempt in pair.runs[EXT].attempts
    )
    over = {block for block in range(12) if {4 * block + place for place in range(4)} <= done}
    rest: list[ev.Event] = [replace(STARTED, epoch=1, start_counter={EXT: P04.start + attempts})]
    for event in EVENTS[1:]:
        if isinstance(event, ev.Block):
            rest += [event] if event.block not in over else []
        elif isinstance(event, ev.Deliveries):
            rest.append(replace(event, faults=_rows_again(event.faults, done)))
        elif isinstance(event, ev.Effects):
            rest.append(replace(event, rows=_rows_again(event.rows, done)))
        elif getattr(event, "pair", None) not in done:
            rest.append(_again(event))
    return [*made, *f.timed(rest, at_s=2000.0)]


def _rows_again(rows: tuple[Any, ...], done: set[int]) -> tuple[Any, ...]:
    return tuple(row if int(row.run_id.split("/")[1]) in done else _again_row(row) for row in rows)


def test_abandoned_runs_are_left_out_and_counted() -> None:
    """The pair had begun, its run had met its fault and left an effect; then it was run again from the start."""
    cut = next(n for n, event in enumerate(EVENTS) if where(**outcome_of(RETRIED))(event)) + 1
    logged = next(event for event in EVENTS if isinstance(event, ev.Deliveries) and event.arm == EXT)
    left = next(event for event in EVENTS if isinstance(event, ev.Effects) and event.arm == EXT)
    first = h.run_id("p04", RETRIED, EXT)
    events: list[ev.Event] = []
    for event in _interrupted(cut):
        if isinstance(event, ev.Deliveries) and event.arm == EXT:
            delivered = tuple(row for row in logged.faults if row.run_id == first)
            events.append(replace(event, faults=(*delivered, *event.faults)))
        elif isinstance(event, ev.Effects) and event.arm == EXT:
            written = tuple(row for row in left.rows if row.run_id == first)
            events.append(replace(event, rows=(*written, *event.rows)))
        else:
            events.append(event)
    judged = judge(events)
    assert judged.findings == ()
    assert judged.faults[EXT].superseded == 1
    assert judged.effects[EXT].superseded == 1
    assert len(judged.faults[EXT].delivered) == 16


def test_an_abandoned_run_cannot_hide_what_it_would_not_have_done() -> None:
    cut = next(n for n, event in enumerate(EVENTS) if where(**outcome_of(RETRIED))(event)) + 1
    first = h.run_id("p04", RETRIED, EXT)

    def written(event: ev.Event) -> ev.Event:
        if isinstance(event, ev.Effects) and event.arm == EXT:
            return replace(event, rows=(*event.rows, h.effect(first, amount=9)))
        return event

    def delivered(event: ev.Event) -> ev.Event:
        if isinstance(event, ev.Deliveries) and event.arm == EXT:
            return replace(event, faults=(*event.faults, h.delivery("x", first)))
        return event

    for kind, change in (("effect_stranger", written), ("fault_not_planned", delivered)):
        events = [change(event) for event in _interrupted(cut)]
        assert [finding.kind for finding in judge(events).findings] == [kind]


def test_beside_others_a_pair_that_is_run_again_follows_none_of_its_runs_before() -> None:
    """How long the harness was gone is no gap between two steps of one pair."""
    cut = next(n for n, event in enumerate(EVENTS) if isinstance(event, ev.Outcome)) + 1
    assert list(of_clocks(_interrupted(cut), created_utc=h.WALL, concurrency=2, holding=())) == []


def test_a_block_whose_end_an_interruption_swallowed_is_contaminated() -> None:
    """Killed after the block's last pair and before its end: nothing of the block is run again."""
    end = next(n for n, event in enumerate(EVENTS) if where(type="block", block=3, phase="end")(event))
    judged = judge(_interrupted(end))
    assert judged.findings == ()
    assert judged.contaminated == {3: "steal_fraction, other_cpu_fraction not recorded"}


@settings(max_examples=30)
@given(st.integers(0, len(EVENTS) - 1))
def test_a_resumed_campaign_counts_as_an_uninterrupted_one(cut: int) -> None:
    whole, resumed = judge(EVENTS), judge(_interrupted(cut))
    assert resumed.findings == ()
    assert resumed.faults == whole.faults
    assert resumed.effects == whole.effects
    assert sorted(resumed.runs) == sorted(whole.runs)
    for arm in (INT, EXT):
        assert [runs[arm].retries for runs in resumed.runs.values()] == [
            runs[arm].retries for runs in whole.runs.values()
        ]
