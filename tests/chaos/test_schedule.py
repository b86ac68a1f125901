"""The schedule is pure: predictions against a simulation written here, and the published table exactly."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chaos.faults import FAULTS, Crash, Hang, Latency, Leak, Reset, Stall, Status, fault_of
from chaos.prediction import PlannedCall, predict
from chaos.schedule import WARMUP_REQUEST, AttemptScheduler, Rule, Schedule
from chaos.when import Burst, Every, Rate
from tests.chaos.predictions import predict_calls
from treni.errors import TreniError

SUITE = [1 if request % 4 == 3 else 0 for request in range(48)]
"""48 requests, every fourth of which calls a tool: 12 tool tasks."""


@dataclass(frozen=True)
class Key:
    request_index: int
    call_index: int = 0
    attempt: int = 0
    hop: str = "tool"


def published(fail_every: int | None, stall_every: int | None) -> Schedule:
    rules = []
    if fail_every is not None:
        rules.append(Rule(kind=Status(), when=Every(every=fail_every)))
    if stall_every is not None:
        rules.append(Rule(kind=Stall(direction="request"), when=Every(every=stall_every)))
    return Schedule(prefix="p", rules=tuple(rules), warmup=1)


@pytest.mark.parametrize(
    ("fail_every", "stall_every", "retries", "errors", "retried", "successes"),
    [
        (None, None, 1, 0, 0, 48),  # p00
        *[(every, None, 1, 0, 1, 48) for every in range(8, 14)],  # p01
        *[(None, every, 1, 0, 1, 48) for every in range(8, 14)],  # p02
        (5, 4, 1, 2, 3, 46),  # p03
        (4, 5, 1, 2, 3, 46),  # p03, the other way round
        (2, 3, 1, 4, 8, 44),  # p04
        (2, 3, 2, 4, 4, 44),  # p05
    ],
)
def test_published_counts(fail_every, stall_every, retries, errors, retried, successes):
    prediction = predict_calls(published(fail_every, stall_every), SUITE, retries)
    counts = (prediction.errors, prediction.retries_of_successes, prediction.successes)
    assert counts == (errors, retried, successes)


def test_published_rates_as_printed():
    rows = {"p03": (5, 4, 1), "p04": (2, 3, 1), "p05": (2, 3, 2), "p01": (10, None, 1), "p02": (None, 10, 1)}
    predictions = {name: predict_calls(published(f, t), SUITE, r) for name, (f, t, r) in rows.items()}
    printed = {n: (round(p.errors / 48, 4), round(p.retries_mean_success, 3)) for n, p in predictions.items()}
    assert printed == {
        "p01": (0.0, 0.021),
        "p02": (0.0, 0.021),
        "p03": (0.0417, 0.065),
        "p04": (0.0833, 0.182),
        "p05": (0.0833, 0.091),
    }


def test_the_published_counts_need_the_warm_up_attempt():
    cold = predict_calls(replace(published(2, 3), warmup=0), SUITE, 2)
    assert (cold.errors, cold.retries_of_successes) != (4, 4)


def test_the_first_attempts_of_p04_by_hand():
    prediction = predict_calls(published(2, 3), [1, 1, 0, 1], 1)
    # n = 2 F, 3 T: failed. n = 4 F, 5 ok. No call. n = 6 F (status wins over the stall), 7 ok.
    assert [request.stratum for request in prediction.requests] == ["F,T", "F", "-", "F"]
    assert prediction.fault_ids == (
        "p:tool:n2:status",
        "p:tool:n3:stall",
        "p:tool:n4:status",
        "p:tool:n6:status",
    )
    assert [request.failed for request in prediction.requests] == [True, False, False, False]
    assert prediction.next_n == {"tool": 8}
    assert prediction.stratum(0) == "F,T"


kinds = st.sampled_from(
    [
        Status(),
        Stall(direction="request"),
        Stall(direction="response"),
        Reset(),
        Latency(delay_ms=100),
        Latency(delay_ms=400),
    ]
)
everies = st.builds(Every, every=st.integers(1, 9))
probabilities = st.floats(0, 1, exclude_min=True)
whens = st.one_of(
    everies,
    st.builds(Rate, rate=probabilities),
    st.builds(
        Burst, enter=probabilities, leave=probabilities, rate=probabilities, rate_outside=st.floats(0, 1)
    ),
)
windows = st.one_of(
    st.just((0, None)),
    st.integers(0, 6).map(lambda low: (low, None)),
    st.tuples(st.integers(0, 6), st.integers(1, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])),
)
counted_rules = st.lists(st.builds(Rule, kind=kinds, when=everies), max_size=3).map(tuple)
drawn_rules = st.lists(
    st.builds(
        lambda kind, when, window: Rule(kind=kind, when=when, from_request=window[0], to_request=window[1]),
        kinds,
        whens,
        windows,
    ),
    max_size=3,
).map(tuple)
counted = st.builds(
    Schedule,
    prefix=st.just("x"),
    by=st.just("attempt"),
    rules=counted_rules,
    warmup=st.integers(0, 5),
    seed=st.integers(0, 2**64 - 1),
)
drawn = st.builds(
    Schedule,
    prefix=st.just("x"),
    by=st.just("request"),
    rules=drawn_rules,
    warmup=st.integers(0, 5),
    seed=st.integers(0, 2**64 - 1),
    cycle=st.one_of(st.none(), st.integers(1, 5)),
)
schedules = counted | drawn
calls = st.lists(st.integers(0, 4), max_size=12)


@given(schedule=schedules, calls=calls, retries=st.integers(0, 3), data=st.data())
@example(
    schedule=Schedule(
        prefix="x", rules=(Rule(kind=Stall(direction="response"), when=Every(every=2)),), warmup=1
    ),
    calls=[1, 2, 1],
    retries=1,
    data=None,
)
def test_prediction_is_what_the_attempt_loop_does(schedule, calls, retries, data):
    """Runs the loop as a controller would, over an imagined tool that keeps a ledger, and compares everything."""
    flags = [
        [True] * count if data is None else [data.draw(st.booleans()) for _ in range(count)]
        for count in calls
    ]
    scheduler = AttemptScheduler(schedule)
    ledger, errors, retried, ids, failed_requests = [], 0, 0, [], []
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
def test_a_resumed_cell_goes_on_where_it_stopped(schedule, calls, retries, cut):
    whole = predict_calls(schedule, calls, retries, timeout_s=1.0)
    first = predict_calls(schedule, calls[:cut], retries, timeout_s=1.0)
    rest = predict_calls(schedule, calls[cut:], retries, first.next_n["tool"], timeout_s=1.0)
    assert first.requests + rest.requests == whole.requests


@given(schedule=drawn, calls=calls, retries=st.integers(0, 2), order_seed=st.integers(0, 2**32))
def test_by_request_the_prediction_holds_in_any_order_of_requests(schedule, calls, retries, order_seed):
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
def test_by_request_one_more_retry_never_fails_a_request_that_was_answered(schedule, calls, retries):
    """What one attempt meets does not depend on the retries made before it."""
    fewer, more = (predict_calls(schedule, calls, r, timeout_s=0.4) for r in (retries, retries + 1))
    for with_fewer, with_more in zip(fewer.requests, more.requests, strict=True):
        assert not with_more.failed or with_fewer.failed
        if not with_fewer.failed:
            assert _kinds(with_more) == _kinds(with_fewer)


@given(schedule=drawn, cycle=st.integers(1, 6), groups=st.integers(1, 4))
def test_a_cycle_is_one_schedule_after_the_other_each_under_the_next_seed(schedule, cycle, groups):
    pooled = predict_calls(replace(schedule, cycle=cycle), [2] * (cycle * groups), 1, timeout_s=0.4)
    for group in range(groups):
        alone = replace(schedule, cycle=None, seed=(schedule.seed + group) % 2**64)
        expected = predict_calls(alone, [2] * cycle, 1, timeout_s=0.4)
        found = pooled.requests[group * cycle : (group + 1) * cycle]
        assert [_kinds(request) for request in found] == [_kinds(request) for request in expected.requests]
    assert len(set(pooled.fault_ids)) == len(pooled.fault_ids)


def _kinds(request):
    return [None if attempt.fault is None else attempt.fault.kind for attempt in request.attempts]


@given(schedule=drawn, low=st.integers(0, 10), size=st.integers(1, 10))
def test_a_window_strikes_inside_and_nowhere_else(schedule, low, size):
    rules = tuple(replace(rule, from_request=low, to_request=low + size) for rule in schedule.rules)
    windowed = replace(schedule, rules=rules, cycle=None)
    everywhere = replace(windowed, rules=tuple(replace(r, from_request=0, to_request=None) for r in rules))
    for request in range(25):
        for attempt in range(3):
            place = {"n": 1, "request_index": request, "call_index": 0, "attempt": attempt}
            expected = everywhere.fault_at(**place) if low <= request < low + size else None
            assert windowed.fault_at(**place) == expected


def test_by_request_hits_about_one_in_every_independently_of_seed():
    for seed in range(5):
        schedule = Schedule(
            prefix="x",
            by="request",
            seed=seed,
            rules=(
                Rule(kind=Status(), when=Every(every=4)),
                Rule(kind=Stall(direction="request"), when=Every(every=4)),
            ),
        )
        prediction = predict_calls(schedule, [1] * 8000, 0)
        letters = Counter(request.stratum for request in prediction.requests)
        # Binomial(8000, 1/4) and, of what the first rule leaves, (8000, 3/16): five standard deviations.
        assert abs(letters["F"] - 2000) < 5 * 38.8
        assert abs(letters["T"] - 1500) < 5 * 35.0


@given(schedule=schedules)
def test_digest_and_ids(schedule):
    assert schedule.digest == replace(schedule).digest
    assert replace(schedule, warmup=schedule.warmup + 1).digest != schedule.digest
    assert replace(schedule, cycle=(schedule.cycle or 0) + 1).digest != schedule.digest
    assert (
        replace(schedule, rules=(*schedule.rules, Rule(kind=Status(), when=Every(every=3)))).digest
        != schedule.digest
    )
    ids = predict_calls(schedule, [3] * 10, 2, timeout_s=0.25).fault_ids
    assert len(set(ids)) == len(ids)


def test_digest_is_the_same_on_every_machine():
    expected = "4339a29dadd12573f9aa5a0aca482f49da11cdda6c52e4feb43e4bde0ae1d3c3"
    assert published(2, 3).digest == expected


def test_every_field_of_a_rule_is_in_the_digest():
    burst = Burst(enter=0.1, leave=0.2, rate=0.3, rate_outside=0.05)
    whens = [
        Every(every=10),
        Rate(rate=0.1),
        burst,
        replace(burst, enter=0.2),
        replace(burst, leave=0.3),
        replace(burst, rate=0.4),
        replace(burst, rate_outside=0.0),
    ]
    rules = [Rule(kind=Status(), when=when) for when in whens]
    rules += [replace(rules[1], from_request=1), replace(rules[1], to_request=1)]
    digests = {Schedule(prefix="x", by="request", rules=(rule,)).digest for rule in rules}
    assert len(digests) == len(rules)


def test_warm_up_and_other_hops_are_neither_faulted_nor_counted():
    scheduler = AttemptScheduler(replace(published(1, None), warmup=0))
    assert scheduler.annotate(Key(WARMUP_REQUEST)) == {}
    assert scheduler.annotate(Key(0, hop="model")) == {}
    assert scheduler.next_n == 1
    assert fault_of(scheduler.annotate(Key(0))).id == "p:tool:n1:status"
    assert scheduler.next_n == 2


def test_by_attempt_refuses_concurrency():
    with pytest.raises(TreniError, match="one request at a time"):
        AttemptScheduler(published(2, 3), concurrency=2)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Rule(kind=Status(), when=Every(every=0)), "every"),
        (lambda: Rule(kind=Status(), when=Every(every=True)), "every"),
        (lambda: Rule(kind=Status(), when=0.5), "when"),
        (lambda: Rate(rate=0.0), "rate"),
        (lambda: Rate(rate=1.01), "rate"),
        (lambda: Rate(rate=float("nan")), "rate"),
        (lambda: Rate(rate=True), "rate"),
        (lambda: Burst(enter=0.0, leave=0.5, rate=1.0), "enter"),
        (lambda: Burst(enter=0.5, leave=2.0, rate=1.0), "leave"),
        (lambda: Burst(enter=0.5, leave=0.5, rate=1.0, rate_outside=-0.1), "rate_outside"),
        (lambda: Rule(kind=Status(), when=Rate(rate=0.5), from_request=-1), "from_request"),
        (lambda: Rule(kind=Status(), when=Rate(rate=0.5), from_request=3, to_request=3), "to_request"),
        (lambda: Schedule(prefix="x", rules=(Rule(kind=Status(), when=Rate(rate=0.5)),)), "request"),
        (
            lambda: Schedule(
                prefix="x", rules=(Rule(kind=Status(), when=Burst(enter=0.5, leave=0.5, rate=1.0)),)
            ),
            "request",
        ),
        (
            lambda: Schedule(prefix="x", rules=(Rule(kind=Status(), when=Every(every=2), to_request=3),)),
            "request",
        ),
        (lambda: Schedule(prefix="x", cycle=0), "cycle"),
        (lambda: Schedule(prefix=""), "prefix"),
        (lambda: Schedule(prefix="x", by="turn"), "by"),
        (lambda: Schedule(prefix="x", site="moon"), "site"),
        (lambda: Schedule(prefix="x", site="tool", hop="model"), "hop"),
        (
            lambda: Schedule(prefix="x", site="tool", rules=(Rule(kind=Reset(), when=Every(every=2)),)),
            "reset",
        ),
        (lambda: Schedule(prefix="x", warmup=-1), "warmup"),
        (lambda: Schedule(prefix="x", seed=-1), "seed"),
        (lambda: AttemptScheduler(published(2, 3), 0), "start"),
        (lambda: predict_calls(published(2, 3), [1], -1), "retries"),
        (
            lambda: predict([published(2, 3), published(3, 2)], [], retries=0, timeouts_s={"tool": 1.0}),
            "one schedule for a hop",
        ),
    ],
)
def test_impossible_arguments_are_refused(build, says):
    with pytest.raises(TreniError, match=says) as caught:
        build()
    assert caught.value.code.name == "INVALID_ARGUMENT"


def test_every_kind_has_a_letter_of_its_own():
    assert len({kind.letter for kind in FAULTS.values()}) == len(FAULTS)


def test_who_gave_up_during_a_hang_gets_no_tool():
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
def test_two_hops_are_predicted_together(tool, model, calls, retries, effects):
    """A run that fails at one hop makes no more calls on the other, whose numbers then lag behind."""
    schedulers = [AttemptScheduler(tool), AttemptScheduler(model)]
    requests = []
    for count in calls:
        request = [PlannedCall(hop="model", index=0)]
        for call in range(count):
            request.append(PlannedCall(hop="tool", index=call, has_effect=effects.random() < 0.5))
            request.append(PlannedCall(hop="model", index=call + 1))
        requests.append(request)
    made, ledger, failed = [], [], []
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


def test_a_stratum_names_the_hop_where_there_are_several():
    both = [replace(published(1, None), hop=hop) for hop in ("model", "tool")]
    calls = [[PlannedCall(hop="model", index=0), PlannedCall(hop="tool", index=0)]]
    prediction = predict(both, calls, retries=1, timeouts_s={"tool": 1.0, "model": 1.0})
    assert prediction.stratum(0) == "model.F,model.F"
    late = replace(both[0], rules=(Rule(kind=Latency(delay_ms=10), when=Every(every=1)),))
    prediction = predict([late, both[1]], calls, retries=0, timeouts_s={"tool": 1.0, "model": 1.0})
    assert prediction.stratum(0) == "model.L,tool.F"


def test_kinds_that_one_letter_would_name_are_refused_together():
    class Delay(Latency):
        name: ClassVar[str] = "delay"

    rules = (
        Rule(kind=Latency(delay_ms=1), when=Every(every=2)),
        Rule(kind=Delay(delay_ms=1), when=Every(every=3)),
    )
    with pytest.raises(TreniError, match="letters differ"):
        Schedule(prefix="x", rules=rules)
