"""What is predicted from schedules, against a simulation written here."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from chaos.faults import Crash, Fault, FaultKind, Hang, Latency, Leak, Stall, fault_of
from chaos.prediction import PlannedCall, PredictedRequest, predict
from chaos.schedule import AttemptScheduler, Rule, Schedule
from chaos.when import Every
from tests.chaos.predictions import predict_calls
from tests.chaos.schedules import Key, calls, counted, drawn, published, schedules


@given(schedule=schedules, calls=calls, retries=st.integers(0, 3), data=st.data())
@example(
    schedule=Schedule(
        prefix="x", rules=(Rule(kind=Stall(direction="response"), when=Every(every=2)),), warmup=1
    ),
    calls=[1, 2, 1],
    retries=1,
    data=None,
)
def test_prediction_is_what_the_attempt_loop_does(
    schedule: Schedule, calls: list[int], retries: int, data: st.DataObject | None
) -> None:
    """Runs the loop as a controller would, over an imagined tool that keeps a ledger, and compares everything."""
    flags = [
        [True] * count if data is None else [data.draw(st.booleans()) for _ in range(count)]
        for count in calls
    ]
    scheduler = AttemptScheduler(schedule)
    ledger: list[tuple[int, int]] = []
    ids: list[str] = []
    failed_requests: list[int] = []
    errors = retried = 0
    for request, count in enumerate(calls):
        tries, failed = 0, False
        for call in range(count):
            answered = False
            for attempt in range(retries + 1):
                if attempt > 0:
                    tries += 1
                fault = fault_of(scheduler.annotate(Key(request, call, attempt)))
                kind = None if fault is None else fault.kind
                if fault is not None:
                    ids.append(fault.id)
                ran = kind is None or isinstance(kind, Latency) or kind == Stall(direction="response")
                if ran and flags[request][call]:
                    ledger.append((request, call))
                if kind is None or kind == Latency(delay_ms=100):
                    answered = True
                    break
            if not answered:
                failed = True
                break
        errors += failed
        retried += 0 if failed else tries
        if failed:
            failed_requests.append(request)
    unkeyed = predict_calls(schedule, calls, retries, timeout_s=0.4, side_effects=flags, idempotency=False)
    keyed = predict_calls(schedule, calls, retries, timeout_s=0.4, side_effects=flags)
    for prediction in (unkeyed, keyed):
        assert (prediction.errors, prediction.retries_of_successes) == (errors, retried)
        assert prediction.fault_ids == tuple(ids)
        assert prediction.next_n == {"tool": scheduler.next_n}
        assert prediction.phantoms == len({row for row in ledger if row[0] in failed_requests})
    assert (unkeyed.effects, unkeyed.duplicates) == (len(ledger), len(ledger) - len(set(ledger)))
    assert (keyed.effects, keyed.duplicates) == (len(set(ledger)), 0)


@given(schedule=counted, calls=calls, retries=st.integers(0, 2), cut=st.integers(0, 12))
def test_a_resumed_cell_goes_on_where_it_stopped(
    schedule: Schedule, calls: list[int], retries: int, cut: int
) -> None:
    whole = predict_calls(schedule, calls, retries, timeout_s=1.0)
    first = predict_calls(schedule, calls[:cut], retries, timeout_s=1.0)
    rest = predict_calls(schedule, calls[cut:], retries, first.next_n["tool"], timeout_s=1.0)
    assert first.requests + rest.requests == whole.requests


@given(schedule=drawn, calls=calls, retries=st.integers(0, 2), order_seed=st.integers(0, 2**32))
def test_by_request_the_prediction_holds_in_any_order_of_requests(
    schedule: Schedule, calls: list[int], retries: int, order_seed: int
) -> None:
    """One scheduler for all requests, which take turns at random, attempt by attempt, as they do at concurrency."""
    prediction = predict_calls(schedule, calls, retries, timeout_s=0.4)
    scheduler = AttemptScheduler(replace(schedule), 77, concurrency=16)
    left = [list(request.attempts) for request in prediction.requests]
    generator = random.Random(order_seed)
    while waiting := [index for index, attempts in enumerate(left) if attempts]:
        request = generator.choice(waiting)
        attempt = left[request].pop(0)
        key = Key(request, attempt.call_index, attempt.attempt)
        assert fault_of(scheduler.annotate(key)) == attempt.fault


@given(schedule=drawn, calls=calls, retries=st.integers(0, 3))
def test_by_request_one_more_retry_never_fails_a_request_that_was_answered(
    schedule: Schedule, calls: list[int], retries: int
) -> None:
    """What one attempt meets does not depend on the retries made before it."""
    fewer, more = (predict_calls(schedule, calls, r, timeout_s=0.4) for r in (retries, retries + 1))
    for with_fewer, with_more in zip(fewer.requests, more.requests, strict=True):
        assert not with_more.failed or with_fewer.failed
        if not with_fewer.failed:
            assert _kinds(with_more) == _kinds(with_fewer)


def _kinds(request: PredictedRequest) -> list[FaultKind | None]:
    return [None if attempt.fault is None else attempt.fault.kind for attempt in request.attempts]


@given(schedule=drawn, cycle=st.integers(1, 6), groups=st.integers(1, 4))
def test_a_cycle_is_one_schedule_after_the_other_each_under_the_next_seed(
    schedule: Schedule, cycle: int, groups: int
) -> None:
    pooled = predict_calls(replace(schedule, cycle=cycle), [2] * (cycle * groups), 1, timeout_s=0.4)
    for group in range(groups):
        alone = replace(schedule, cycle=None, seed=(schedule.seed + group) % 2**64)
        expected = predict_calls(alone, [2] * cycle, 1, timeout_s=0.4)
        found = pooled.requests[group * cycle : (group + 1) * cycle]
        assert [_kinds(request) for request in found] == [_kinds(request) for request in expected.requests]
    assert len(set(pooled.fault_ids)) == len(pooled.fault_ids)


def test_who_gave_up_during_a_hang_gets_no_tool() -> None:
    """A fault that breaks its host strikes first; a late answer, which the tool gave, leaves its effect."""
    for kind, timeout_s, effects, phantoms in [
        (Hang(duration_ms=300), 0.2, 0, 0),
        (Hang(duration_ms=300), 1.0, 1, 0),
        (Latency(delay_ms=300), 0.2, 1, 1),
        (Crash(), 1.0, 0, 0),
        (Leak(size_mb=1), 1.0, 1, 0),
    ]:
        schedule = Schedule(
            prefix="p", site="tool", by="request", rules=(Rule(kind=kind, when=Every(every=1)),)
        )
        prediction = predict_calls(schedule, [1], 0, timeout_s=timeout_s, side_effects=[[True]])
        assert (prediction.effects, prediction.phantoms) == (effects, phantoms), kind


model_schedules = schedules.map(lambda schedule: replace(schedule, hop="model"))


@given(tool=schedules, model=model_schedules, calls=calls, retries=st.integers(0, 2), effects=st.randoms())
def test_two_hops_are_predicted_together(
    tool: Schedule, model: Schedule, calls: list[int], retries: int, effects: random.Random
) -> None:
    """A run that fails at one hop makes no more calls on the other, whose numbers then lag behind."""
    schedulers = [AttemptScheduler(tool), AttemptScheduler(model)]
    requests = []
    for count in calls:
        request = [PlannedCall(hop="model", index=0)]
        for index in range(count):
            request.append(PlannedCall(hop="tool", index=index, has_effect=effects.random() < 0.5))
            request.append(PlannedCall(hop="model", index=index + 1))
        requests.append(request)
    made: list[tuple[int, str, int, int, Fault | None]] = []
    ledger: list[tuple[int, int]] = []
    failed: list[int] = []
    for number, request in enumerate(requests):
        for call in request:
            for attempt in range(retries + 1):
                key = Key(number, call.index, attempt, call.hop)
                marks = [mark for one in schedulers if (mark := one.annotate(key))]
                assert len(marks) <= 1
                fault = fault_of(marks[0]) if marks else None
                made.append((number, call.hop, call.index, attempt, fault))
                ran = (
                    fault is None or fault.kind == Stall(direction="response") or fault.kind.name == "latency"
                )
                if call.has_effect and ran:
                    ledger.append((number, call.index))
                answered = fault is None or fault.kind == Latency(delay_ms=100)
                if answered:
                    break
            if not answered:
                failed.append(number)
                break
    prediction = predict(
        [tool, model], requests, retries=retries, timeouts_s={"tool": 0.4, "model": 0.3}, idempotency=False
    )
    assert [
        (number, one.hop, one.call_index, one.attempt, one.fault)
        for number, request in enumerate(prediction.requests)
        for one in request.attempts
    ] == made
    assert [number for number, request in enumerate(prediction.requests) if request.failed] == failed
    assert prediction.next_n == {"tool": schedulers[0].next_n, "model": schedulers[1].next_n}
    assert prediction.effects == len(ledger)
    assert prediction.phantoms == len({row for row in ledger if row[0] in failed})


def test_a_stratum_names_the_hop_where_there_are_several() -> None:
    both = [replace(published(1, None), hop=hop) for hop in ("model", "tool")]
    calls = [[PlannedCall(hop="model", index=0), PlannedCall(hop="tool", index=0)]]
    prediction = predict(both, calls, retries=1, timeouts_s={"tool": 1.0, "model": 1.0})
    assert prediction.stratum(0) == "model.F,model.F"
    late = replace(both[0], rules=(Rule(kind=Latency(delay_ms=10), when=Every(every=1)),))
    prediction = predict([late, both[1]], calls, retries=0, timeouts_s={"tool": 1.0, "model": 1.0})
    assert prediction.stratum(0) == "model.L,tool.F"
