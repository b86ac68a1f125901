"""The checker on histories that are as planned, and on ones that must fail, each with its finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults import Stall
from chaos.schedule import Rule, Schedule
from chaos.when import Every
from matrices.arms.external import EXTERNAL
from matrices.checks.check import check
from matrices.evidence import events as ev
from matrices.planning.expectation import Expectation
from tests.matrices import faithful as f
from tests.matrices import histories as h
from tests.matrices.checks.p04 import (
    CLEAN,
    EVENTS,
    EXPECTATION,
    EXT,
    FAULTED,
    INT,
    MANIFEST,
    RETRIED,
    STARTED,
    changed,
    judge,
    outcome_of,
    record,
    set_to,
    where,
    without,
)


def _found(events: list[ev.Event]) -> set[tuple[str, str, int | None]]:
    return {(finding.kind, finding.arm, finding.pair) for finding in judge(events).findings}


def test_the_published_counts_are_what_a_faithful_history_has() -> None:
    """p04: 4 of 48 fail and 8 retries over 44 successes (published 0.0833 and 0.182)."""
    judged = judge(EVENTS)
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


FIRST_FAULT = EXPECTATION.pairs[FAULTED].runs["external"].faults[0].id


def _deliveries(change: Callable[[tuple[ev.Delivery, ...]], tuple[ev.Delivery, ...]]) -> list[ev.Event]:
    return changed(
        lambda event: replace(event, faults=change(event.faults)), type="deliveries", arm="external"
    )


def _effects(change: Callable[[tuple[ev.EffectRow, ...]], tuple[ev.EffectRow, ...]]) -> list[ev.Event]:
    return changed(lambda event: replace(event, rows=change(event.rows)), type="effects", arm="external")


def _pair(pair: int) -> list[ev.Event]:
    return [event for event in EVENTS if getattr(event, "pair", None) == pair]


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
FAILED_CLEAN = changed(
    lambda event: h.failed("p04", CLEAN, event.arm, record=event.record), type="outcome", pair=CLEAN
)
STRAY = ev.PairCompleted(cell="p04", pair=99)
Kinds = set[tuple[str, str, int | None]]

CASES: dict[str, tuple[list[ev.Event], Kinds]] = {
    "a pair is missing": (without(pair=CLEAN), {("pair_missing", "", CLEAN), ("event_stray", "", None)}),
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
        without(type="pair_complete", pair=CLEAN),
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
        without(**outcome_of(CLEAN)),
        {("outcome_missing", EXT, CLEAN), ("event_stray", "", CLEAN)},
    ),
    "another task": (changed(set_to(task_id="x"), type="pair", pair=3), {("pair_not_as_planned", "", 3)}),
    "another stratum": (changed(set_to(stratum="F"), type="pair", pair=3), {("pair_not_as_planned", "", 3)}),
    "other faults": (
        changed(set_to(planned_faults={INT: (), EXT: ("f",)}), type="pair", pair=3),
        {("pair_not_as_planned", "", 3)},
    ),
    "arms did different work": (
        changed(record(lambda r: r.update(usage=OTHER_TOKENS)), **outcome_of(CLEAN)),
        {("pair_void", "", CLEAN), ("usage_wrong", EXT, CLEAN)},
    ),
    "a wrong answer": (
        changed(set_to(answer="43", correct=False), **outcome_of(CLEAN)),
        {("answer_wrong", EXT, CLEAN)},
    ),
    "a wrong answer that was called right": (
        changed(set_to(answer="43"), **outcome_of(CLEAN)),
        {("answer_wrong", EXT, CLEAN), ("grade_wrong", EXT, CLEAN)},
    ),
    "a right answer that was called wrong": (
        changed(set_to(correct=False), **outcome_of(CLEAN)),
        {("grade_wrong", EXT, CLEAN)},
    ),
    "an answer that was not judged": (
        changed(set_to(correct=None), **outcome_of(CLEAN)),
        {("grade_wrong", EXT, CLEAN)},
    ),
    "an answer without a record": (
        changed(set_to(record=None), **outcome_of(CLEAN)),
        {("record_missing", EXT, CLEAN)},
    ),
    "the arms' addresses swapped": (
        changed(record(lambda r: r.update(arm=INT)), **outcome_of(CLEAN)),
        {("arm_swapped", EXT, CLEAN)},
    ),
    "another backend": (
        changed(record(lambda r: r.update(backend="cupy")), **outcome_of(CLEAN)),
        {("backend_swapped", EXT, CLEAN)},
    ),
    "one arm held to the tools' schemas": (
        changed(record(lambda r: r.update(constrained=True)), **outcome_of(CLEAN)),
        {("decoding_otherwise", EXT, CLEAN), ("pair_void", "", CLEAN)},
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
        changed(lambda event: h.outcome("p04", FAULTED, EXT, record=event.record), **outcome_of(FAULTED)),
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
        changed(record(_drop_retry), **outcome_of(RETRIED)),
        {("retry_count", EXT, None), ("retries_unplanned", EXT, RETRIED), ("attempt_wrong", EXT, RETRIED)},
    ),
    "a failed attempt that no fault caused": (
        changed(record(_drop_fault), **outcome_of(RETRIED)),
        {("attempt_wrong", EXT, RETRIED), ("fault_not_observed", EXT, RETRIED)},
    ),
    "a fault ended otherwise": (
        changed(record(_other_code), **outcome_of(FAULTED)),
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
        without(type="deliveries", arm=EXT),
        {("log_missing", EXT, None), ("event_stray", "", None)},
    ),
    "no ledger": (without(type="effects", arm=EXT), {("log_missing", EXT, None), ("event_stray", "", None)}),
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
        changed(set_to(latency_s=0.001), **outcome_of(CLEAN)),
        {
            ("hops_negative", EXT, CLEAN),
            ("latency_impossible", EXT, CLEAN),
            ("ttft_impossible", EXT, CLEAN),
        },
    ),
    "no conditions": (
        changed(set_to(conditions={}), type="block", block=2, phase="end"),
        {("conditions_missing", "", None)},
    ),
    "a broken cell": (
        changed(set_to(status="broken", detail="toxiproxy died"), type="cell_end"),
        {("cell_broken", "", None)},
    ),
    "an interrupted cell": (without(type="cell_end"), {("cell_unended", "", None)}),
    "a cell that never ran": ([], {("cell_missing", "", None)}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_history_that_is_wrong_gives_exactly_its_findings(name: str) -> None:
    events, want = CASES[name]
    assert _found(events) == want


def test_a_cell_that_was_not_planned_is_found() -> None:
    judged = check(MANIFEST, [*EVENTS, replace(STARTED, cell="p99")], [EXPECTATION])
    assert [finding.kind for finding in judged[-1].findings] == ["cell_unplanned"]
    assert judged[-1].cell == "p99"


def test_a_contaminated_block_is_named_and_is_no_finding() -> None:
    stolen = {**h.CALM, "steal_fraction": 0.2}
    judged = judge(changed(set_to(conditions=stolen), type="block", block=3, phase="end"))
    assert judged.findings == ()
    assert judged.contaminated == {3: "steal_fraction 0.2 > 0.1"}
    at_start = changed(set_to(conditions=stolen), type="block", block=3, phase="start")
    assert judge(at_start).contaminated == {}


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


NEEDED = [n for n, event in enumerate(EVENTS) if not where(phase="start")(event) and event.type != "cell"]


@settings(max_examples=30)
@given(st.sampled_from(NEEDED))
def test_an_event_that_is_lost_is_found(lost: int) -> None:
    assert judge([*EVENTS[:lost], *EVENTS[lost + 1 :]]).findings != ()


OF_PAIRS = [n for n, event in enumerate(EVENTS) if hasattr(event, "pair")]


@settings(max_examples=30)
@given(st.sampled_from(OF_PAIRS), st.sampled_from(OF_PAIRS))
def test_an_event_of_a_pair_that_comes_twice_is_found(copied: int, to: int) -> None:
    assert judge([*EVENTS[:to], EVENTS[copied], *EVENTS[to:]]).findings != ()


def _with_arm(**changes: Any) -> Expectation:
    """The expectation where the external arm is another in these respects."""
    comparison = replace(EXPECTATION.comparison, compared=replace(EXTERNAL, **changes))
    return replace(EXPECTATION, comparison=comparison)


def test_arms_that_need_not_be_alike_are_not_void_for_other_tokens() -> None:
    told = record(lambda record: record.update(usage={**record["usage"], "prompt_tokens": 999}))
    events = changed(told, type="outcome", arm="external", pair=3)
    (bound,) = check(MANIFEST, events, [EXPECTATION])
    (free,) = check(MANIFEST, events, [_with_arm(alike=False)])
    assert list(bound.void) == [3]
    assert (free.void, free.findings) == ({}, ())


def test_an_arm_without_engine_timings_is_not_asked_for_them() -> None:
    def silent(record: dict[str, Any]) -> None:
        for part in ("engine", "awareness"):
            del record[part]

    events = changed(record(silent), type="outcome", arm="external")
    (bound,) = check(MANIFEST, events, [EXPECTATION])
    (free,) = check(MANIFEST, events, [_with_arm(engine_timings=False)])
    assert {"stages_impossible", "usage_wrong"} <= {finding.kind for finding in bound.findings}
    assert free.findings == ()


def test_a_finding_quotes_no_more_than_it_must() -> None:
    judged = judge(changed(set_to(correct=False, answer="9" * 10_000_000), **outcome_of(CLEAN)))
    assert len(str(judged.findings[0])) < 500


def test_a_finding_reads_as_a_line() -> None:
    finding = judge(without(pair=CLEAN)).findings[0]
    assert str(finding) == "pair_missing [p04 pair 1]"
