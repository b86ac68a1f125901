"""The checker on histories that are as planned, and on ones that must fail, each with its finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults import Stall, Status
from chaos.schedule import Rule, Schedule
from chaos.when import Every
from matrices.arms.external import EXTERNAL
from matrices.checks.check import CellJudgement, check
from matrices.evidence import events as ev
from matrices.evidence.history import state_of
from matrices.planning.expectation import Expectation
from tests.matrices import faithful as f
from tests.matrices import histories as h

P04 = Schedule(
    prefix="p04",
    rules=(
        Rule(kind=Status(), when=Every(every=2)),
        Rule(kind=Stall(direction="request"), when=Every(every=3)),
    ),
    warmup=1,
)
EVENTS, EXPECTATION = f.campaign_cell("p04", schedule=P04)
MANIFEST = h.manifest(h.manifest_cell("p04", profile="p04_mixed_aggressive", site="hop"), runs=12)


def _judge(events: list[ev.Event]) -> CellJudgement:
    return check(MANIFEST, events, [EXPECTATION])[0]


def _found(events: list[ev.Event]) -> set[tuple[str, str, int | None]]:
    return {(finding.kind, finding.arm, finding.pair) for finding in _judge(events).findings}


def _where(**fields: Any) -> Callable[[ev.Event], bool]:
    return lambda event: all(getattr(event, name, None) == value for name, value in fields.items())


def _without(**fields: Any) -> list[ev.Event]:
    match = _where(**fields)
    kept = [event for event in EVENTS if not match(event)]
    assert len(kept) < len(EVENTS)
    return kept


def _changed(change: Callable[[Any], ev.Event], **fields: Any) -> list[ev.Event]:
    match = _where(**fields)
    assert any(match(event) for event in EVENTS)
    return [change(event) if match(event) else event for event in EVENTS]


def _record(change: Callable[[dict[str, Any]], Any]) -> Callable[[ev.Outcome], ev.Outcome]:
    def apply(outcome: ev.Outcome) -> ev.Outcome:
        assert outcome.record is not None
        copied = {**outcome.record, "attempts": [dict(one) for one in outcome.record["attempts"]]}
        change(copied)
        return replace(outcome, record=copied)

    return apply


def test_the_published_counts_are_what_a_faithful_history_has() -> None:
    """p04: 4 of 48 fail and 8 retries over 44 successes (published 0.0833 and 0.182)."""
    judged = _judge(EVENTS)
    assert judged.findings == ()
    assert judged.complete
    runs = [by_arm["external"] for by_arm in judged.runs.values()]
    assert sum(not run.ok for run in runs) == 4
    assert sum(run.retries for run in runs if run.ok) == 8
    account = judged.faults["external"]
    assert len(account.planned) == len(account.delivered) == len(account.observed) == 16
    assert judged.faults["internal"].planned == ()
    assert judged.effects["external"].lost == 0
    assert judged.effects["internal"].recorded == 12


FAULTED = 0  # the first tool task meets n = 2 and n = 3: both its attempts fail
RETRIED = 4  # the next meets n = 4, and succeeds at its retry n = 5
CLEAN = 1

assert not EXPECTATION.pairs[FAULTED].runs["external"].ok
assert EXPECTATION.pairs[RETRIED].runs["external"].retries == 1
assert EXPECTATION.pairs[RETRIED].runs["external"].ok
FIRST_FAULT = EXPECTATION.pairs[FAULTED].runs["external"].faults[0].id


def _deliveries(change: Callable[[tuple[ev.Delivery, ...]], tuple[ev.Delivery, ...]]) -> list[ev.Event]:
    return _changed(
        lambda event: replace(event, faults=change(event.faults)), type="deliveries", arm="external"
    )


def _effects(change: Callable[[tuple[ev.EffectRow, ...]], tuple[ev.EffectRow, ...]]) -> list[ev.Event]:
    return _changed(lambda event: replace(event, rows=change(event.rows)), type="effects", arm="external")


def _pair(pair: int) -> list[ev.Event]:
    return [event for event in EVENTS if getattr(event, "pair", None) == pair]


def _set(**changes: Any) -> Callable[[Any], ev.Event]:
    return lambda event: replace(event, **changes)


def _of(pair: int, arm: str = "external") -> dict[str, Any]:
    return {"type": "outcome", "pair": pair, "arm": arm}


def _drop_retry(record: dict[str, Any]) -> None:
    for attempt in record["attempts"]:
        attempt["attempt"] = 0


def _drop_fault(record: dict[str, Any]) -> None:
    for attempt in record["attempts"]:
        attempt["fault_id"] = ""


def _other_code(record: dict[str, Any]) -> None:
    for attempt in record["attempts"]:
        if attempt["fault_id"] == FIRST_FAULT:
            attempt["code"] = "INTERNAL"


OTHER_TOKENS = {"prompt_tokens": 7, "completion_tokens": 1, "cached_prompt_tokens": 0}
FAILED_CLEAN = _changed(
    lambda event: h.failed("p04", CLEAN, event.arm, record=event.record), type="outcome", pair=CLEAN
)
STRAY = ev.PairCompleted(cell="p04", pair=99)
Kinds = set[tuple[str, str, int | None]]
EXT, INT = "external", "internal"

CASES: dict[str, tuple[list[ev.Event], Kinds]] = {
    "a pair is missing": (_without(pair=CLEAN), {("pair_missing", "", CLEAN), ("event_stray", "", None)}),
    "a pair is repeated": (
        [*EVENTS, *_pair(CLEAN)],
        {
            ("pair_repeated", "", CLEAN),
            ("event_stray", "", None),
            ("clock_impossible", "", None),
            ("clock_stepped", "", None),
        },
    ),
    "a pair was begun and left": (
        _without(type="pair_complete", pair=CLEAN),
        {
            ("pair_missing", "", CLEAN),
            ("pair_unfinished", "", CLEAN),
            ("event_stray", "", CLEAN + 1),
            ("event_stray", "", None),
        },
    ),
    "an unplanned pair": (
        [*EVENTS, *h.pair_events("p04", 99, block=0)],
        {
            ("pair_unplanned", "", 99),
            ("event_stray", "", None),
            ("clock_impossible", "", None),
            ("clock_stepped", "", None),
        },
    ),
    "an event out of place": ([*EVENTS, STRAY], {("event_stray", "", None)}),
    "an outcome is missing": (
        _without(**_of(CLEAN)),
        {("outcome_missing", EXT, CLEAN), ("event_stray", "", CLEAN)},
    ),
    "another task": (_changed(_set(task_id="x"), type="pair", pair=3), {("pair_not_as_planned", "", 3)}),
    "another stratum": (_changed(_set(stratum="F"), type="pair", pair=3), {("pair_not_as_planned", "", 3)}),
    "other faults": (
        _changed(_set(planned_faults={INT: (), EXT: ("f",)}), type="pair", pair=3),
        {("pair_not_as_planned", "", 3)},
    ),
    "arms did different work": (
        _changed(_record(lambda r: r.update(usage=OTHER_TOKENS)), **_of(CLEAN)),
        {("pair_void", "", CLEAN), ("usage_wrong", EXT, CLEAN)},
    ),
    "a wrong answer": (
        _changed(_set(answer="43", correct=False), **_of(CLEAN)),
        {("answer_wrong", EXT, CLEAN)},
    ),
    "a wrong answer that was called right": (
        _changed(_set(answer="43"), **_of(CLEAN)),
        {("answer_wrong", EXT, CLEAN), ("grade_wrong", EXT, CLEAN)},
    ),
    "a right answer that was called wrong": (
        _changed(_set(correct=False), **_of(CLEAN)),
        {("grade_wrong", EXT, CLEAN)},
    ),
    "an answer that was not judged": (
        _changed(_set(correct=None), **_of(CLEAN)),
        {("grade_wrong", EXT, CLEAN)},
    ),
    "an answer without a record": (
        _changed(_set(record=None), **_of(CLEAN)),
        {("record_missing", EXT, CLEAN)},
    ),
    "the arms' addresses swapped": (
        _changed(_record(lambda r: r.update(arm=INT)), **_of(CLEAN)),
        {("arm_swapped", EXT, CLEAN)},
    ),
    "another backend": (
        _changed(_record(lambda r: r.update(backend="cupy")), **_of(CLEAN)),
        {("backend_swapped", EXT, CLEAN)},
    ),
    "errors that no fault caused": (
        FAILED_CLEAN,
        {
            ("error_count", EXT, None),
            ("error_count", INT, None),
            ("error_unscheduled", INT, None),
            ("error_unplanned", EXT, CLEAN),
            ("error_unplanned", INT, CLEAN),
            ("error_unexplained", EXT, CLEAN),
            ("error_unexplained", INT, CLEAN),
        },
    ),
    "a predicted error that did not come": (
        _changed(lambda event: h.outcome("p04", FAULTED, EXT, record=event.record), **_of(FAULTED)),
        {
            ("error_count", EXT, None),
            ("error_absent", EXT, FAULTED),
            ("retry_count", EXT, None),
            ("pair_void", "", FAULTED),
            ("hops_negative", EXT, FAULTED),
            ("latency_impossible", EXT, FAULTED),
        },
    ),
    "a wrong retry count": (
        _changed(_record(_drop_retry), **_of(RETRIED)),
        {("retry_count", EXT, None), ("retries_unplanned", EXT, RETRIED), ("attempt_wrong", EXT, RETRIED)},
    ),
    "a failed attempt that no fault caused": (
        _changed(_record(_drop_fault), **_of(RETRIED)),
        {("attempt_wrong", EXT, RETRIED), ("fault_not_observed", EXT, RETRIED)},
    ),
    "a fault ended otherwise": (
        _changed(_record(_other_code), **_of(FAULTED)),
        {("fault_not_observed", EXT, FAULTED), ("attempt_wrong", EXT, FAULTED)},
    ),
    "a fault was lost": (_deliveries(lambda rows: rows[1:]), {("fault_not_delivered", EXT, FAULTED)}),
    "a fault came twice": (
        _deliveries(lambda rows: (*rows, rows[0])),
        {("fault_delivered_twice", EXT, FAULTED)},
    ),
    "a fault that was not planned": (
        _deliveries(lambda rows: (*rows, h.delivery("x", h.run_id("p04", CLEAN, EXT)))),
        {("fault_not_planned", EXT, CLEAN)},
    ),
    "a fault on the wrong run": (
        _deliveries(lambda rows: (replace(rows[0], run_id=h.run_id("p04", CLEAN, EXT)), *rows[1:])),
        {("fault_not_planned", EXT, CLEAN), ("fault_not_delivered", EXT, FAULTED)},
    ),
    "no delivery log": (
        _without(type="deliveries", arm=EXT),
        {("log_missing", EXT, None), ("event_stray", "", None)},
    ),
    "no ledger": (_without(type="effects", arm=EXT), {("log_missing", EXT, None), ("event_stray", "", None)}),
    "an effect was lost": (_effects(lambda rows: rows[1:]), {("effect_lost", EXT, RETRIED)}),
    "an effect was duplicated": (
        _effects(lambda rows: (*rows, replace(rows[0], attempt=1))),
        {("effect_duplicate", EXT, RETRIED)},
    ),
    "an effect of a failed run": (
        _effects(lambda rows: (*rows, h.effect(h.run_id("p04", FAULTED, EXT)))),
        {("effect_phantom", EXT, FAULTED)},
    ),
    "an effect of nobody": (
        _effects(lambda rows: (*rows, h.effect("who"))),
        {("effect_stranger", EXT, None)},
    ),
    "parts beyond the whole": (
        _changed(_set(latency_s=0.001), **_of(CLEAN)),
        {
            ("hops_negative", EXT, CLEAN),
            ("latency_impossible", EXT, CLEAN),
            ("ttft_impossible", EXT, CLEAN),
        },
    ),
    "no conditions": (
        _changed(_set(conditions={}), type="block", block=2, phase="end"),
        {("conditions_missing", "", None)},
    ),
    "a broken cell": (
        _changed(_set(status="broken", detail="toxiproxy died"), type="cell_end"),
        {("cell_broken", "", None)},
    ),
    "an interrupted cell": (_without(type="cell_end"), {("cell_unended", "", None)}),
    "a cell that never ran": ([], {("cell_missing", "", None)}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_history_that_is_wrong_gives_exactly_its_findings(name: str) -> None:
    events, want = CASES[name]
    assert _found(events) == want


def test_a_cell_that_was_not_planned_is_found() -> None:
    judged = check(MANIFEST, [*EVENTS, replace(EVENTS[0], cell="p99")], [EXPECTATION])
    assert [finding.kind for finding in judged[-1].findings] == ["cell_unplanned"]
    assert judged[-1].cell == "p99"


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
    rest: list[Any] = [replace(EVENTS[0], epoch=1, start_counter={EXT: P04.start + attempts})]
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
    cut = next(n for n, event in enumerate(EVENTS) if _where(**_of(RETRIED))(event)) + 1
    logged = next(event for event in EVENTS if _where(type="deliveries", arm=EXT)(event))
    left = next(event for event in EVENTS if _where(type="effects", arm=EXT)(event))
    first = h.run_id("p04", RETRIED, EXT)
    events: list[ev.Event] = []
    for event in _interrupted(cut):
        if isinstance(event, ev.Deliveries) and event.arm == EXT:
            old = tuple(row for row in logged.faults if row.run_id == first)
            events.append(replace(event, faults=(*old, *event.faults)))
        elif isinstance(event, ev.Effects) and event.arm == EXT:
            old = tuple(row for row in left.rows if row.run_id == first)
            events.append(replace(event, rows=(*old, *event.rows)))
        else:
            events.append(event)
    judged = _judge(events)
    assert judged.findings == ()
    assert judged.faults[EXT].superseded == 1
    assert judged.effects[EXT].superseded == 1
    assert len(judged.faults[EXT].delivered) == 16


def test_an_abandoned_run_cannot_hide_what_it_would_not_have_done() -> None:
    cut = next(n for n, event in enumerate(EVENTS) if _where(**_of(RETRIED))(event)) + 1
    first = h.run_id("p04", RETRIED, EXT)
    for kind, change in (
        ("effect_stranger", lambda event: replace(event, rows=(*event.rows, h.effect(first, amount=9)))),
        ("fault_not_planned", lambda event: replace(event, faults=(*event.faults, h.delivery("x", first)))),
    ):
        field = "rows" if kind == "effect_stranger" else "faults"
        events = [
            change(event) if hasattr(event, field) and event.arm == EXT else event
            for event in _interrupted(cut)
        ]
        assert [finding.kind for finding in _judge(events).findings] == [kind]


def test_a_contaminated_block_is_named_and_is_no_finding() -> None:
    stolen = {**h.CALM, "steal_fraction": 0.2}
    judged = _judge(_changed(_set(conditions=stolen), type="block", block=3, phase="end"))
    assert judged.findings == ()
    assert judged.contaminated == {3: "steal_fraction 0.2 > 0.1"}
    at_start = _changed(_set(conditions=stolen), type="block", block=3, phase="start")
    assert _judge(at_start).contaminated == {}


def test_a_block_whose_end_an_interruption_swallowed_is_contaminated() -> None:
    """Killed after the block's last pair and before its end: nothing of the block is run again."""
    end = next(n for n, event in enumerate(EVENTS) if _where(type="block", block=3, phase="end")(event))
    judged = _judge(_interrupted(end))
    assert judged.findings == ()
    assert judged.contaminated == {3: "steal_fraction, other_cpu_fraction not recorded"}


@pytest.mark.parametrize("idempotency", [True, False])
def test_retries_after_a_lost_answer_duplicate_what_the_schedule_predicts(idempotency: bool) -> None:
    """The tool ran and its answer was lost: every 2nd attempt, each call tried once more."""
    lost = Schedule(
        prefix="p04", rules=(Rule(kind=Stall(direction="response"), when=Every(every=2)),), warmup=1
    )
    events, expected = f.campaign_cell("p04", schedule=lost, idempotency=idempotency)
    judged = check(MANIFEST, events, [expected])[0]
    assert judged.findings == ()
    assert judged.effects[EXT].duplicate == expected.duplicates(EXT) == (0 if idempotency else 12)
    assert judged.effects[INT].duplicate == 0


def test_a_fresh_key_for_each_attempt_counts_every_row_beyond_the_first() -> None:
    """The tool ran, its answer was lost, and the retry had a key of its own: the ledger wrote the entry again."""
    lost = Schedule(
        prefix="p04", rules=(Rule(kind=Stall(direction="response"), when=Every(every=2)),), warmup=1
    )
    events, expected = f.campaign_cell("p04", schedule=lost)
    twice: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.Effects) and event.arm == EXT:
            again = [
                replace(row, attempt=1, idempotency_key=f"{row.idempotency_key}/1") for row in event.rows
            ]
            event = replace(event, rows=(*event.rows, *again))
        twice.append(event)
    judged = check(MANIFEST, twice, [expected])[0]
    assert judged.effects[EXT].duplicate == 12
    assert [finding.kind for finding in judged.findings] == ["effect_duplicate"] * 12


NEEDED = [n for n, event in enumerate(EVENTS) if not _where(phase="start")(event) and event.type != "cell"]


@settings(deadline=None)
@given(st.sampled_from(NEEDED))
def test_an_event_that_is_lost_is_found(lost: int) -> None:
    assert _judge([*EVENTS[:lost], *EVENTS[lost + 1 :]]).findings != ()


OF_PAIRS = [n for n, event in enumerate(EVENTS) if hasattr(event, "pair")]


@settings(deadline=None)
@given(st.sampled_from(OF_PAIRS), st.sampled_from(OF_PAIRS))
def test_an_event_of_a_pair_that_comes_twice_is_found(copied: int, to: int) -> None:
    assert _judge([*EVENTS[:to], EVENTS[copied], *EVENTS[to:]]).findings != ()


@settings(deadline=None)
@given(st.integers(0, len(EVENTS) - 1))
def test_a_resumed_campaign_counts_as_an_uninterrupted_one(cut: int) -> None:
    whole, resumed = _judge(EVENTS), _judge(_interrupted(cut))
    assert resumed.findings == ()
    assert resumed.faults == whole.faults
    assert resumed.effects == whole.effects
    assert sorted(resumed.runs) == sorted(whole.runs)
    for arm in (INT, EXT):
        assert [runs[arm].retries for runs in resumed.runs.values()] == [
            runs[arm].retries for runs in whole.runs.values()
        ]


def _with_arm(**changes: Any) -> Expectation:
    """The expectation where the external arm is another in these respects."""
    comparison = replace(EXPECTATION.comparison, compared=replace(EXTERNAL, **changes))
    return replace(EXPECTATION, comparison=comparison)


def test_arms_that_need_not_be_alike_are_not_void_for_other_tokens() -> None:
    told = _record(lambda record: record.update(usage={**record["usage"], "prompt_tokens": 999}))
    events = _changed(told, type="outcome", arm="external", pair=3)
    (bound,) = check(MANIFEST, events, [EXPECTATION])
    (free,) = check(MANIFEST, events, [_with_arm(alike=False)])
    assert list(bound.void) == [3]
    assert (free.void, free.findings) == ({}, ())


def test_an_arm_without_engine_timings_is_not_asked_for_them() -> None:
    def silent(record: dict[str, Any]) -> None:
        for part in ("engine", "awareness"):
            del record[part]

    events = _changed(_record(silent), type="outcome", arm="external")
    (bound,) = check(MANIFEST, events, [EXPECTATION])
    (free,) = check(MANIFEST, events, [_with_arm(engine_timings=False)])
    assert {"stages_impossible", "usage_wrong"} <= {finding.kind for finding in bound.findings}
    assert free.findings == ()


def test_a_finding_quotes_no_more_than_it_must() -> None:
    judged = _judge(_changed(_set(correct=False, answer="9" * 10_000_000), **_of(CLEAN)))
    assert len(str(judged.findings[0])) < 500


def test_a_finding_reads_as_a_line() -> None:
    finding = _judge(_without(pair=CLEAN)).findings[0]
    assert str(finding) == "pair_missing [p04 pair 1]"
