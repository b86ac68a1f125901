"""The schedule is pure: predictions against a simulation written here, and the published table exactly."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chaos.faults import KINDS, Crash, Hang, Latency, Leak, Reset, Stall, Status, fault_of
from chaos.schedule import WARMUP_REQUEST, AttemptScheduler, Rule, Schedule, predict
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
        rules.append(Rule(kind=Status(), every=fail_every))
    if stall_every is not None:
        rules.append(Rule(kind=Stall(), every=stall_every))
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
    prediction = predict(published(fail_every, stall_every), SUITE, retries)
    counts = (prediction.errors, prediction.retries_of_successes, prediction.successes)
    assert counts == (errors, retried, successes)


def test_published_rates_as_printed():
    rows = {"p03": (5, 4, 1), "p04": (2, 3, 1), "p05": (2, 3, 2), "p01": (10, None, 1), "p02": (None, 10, 1)}
    predictions = {name: predict(published(f, t), SUITE, r) for name, (f, t, r) in rows.items()}
    printed = {n: (round(p.errors / 48, 4), round(p.retries_mean_success, 3)) for n, p in predictions.items()}
    assert printed == {
        "p01": (0.0, 0.021),
        "p02": (0.0, 0.021),
        "p03": (0.0417, 0.065),
        "p04": (0.0833, 0.182),
        "p05": (0.0833, 0.091),
    }


def test_the_published_counts_need_the_warm_up_attempt():
    cold = predict(replace(published(2, 3), warmup=0), SUITE, 2)
    assert (cold.errors, cold.retries_of_successes) != (4, 4)


def test_the_first_attempts_of_p04_by_hand():
    prediction = predict(published(2, 3), [1, 1, 0, 1], 1)
    # n = 2 F, 3 T: failed. n = 4 F, 5 ok. No call. n = 6 F (status wins over the stall), 7 ok.
    assert [request.stratum for request in prediction.requests] == ["F,T", "F", "-", "F"]
    assert prediction.fault_ids == (
        "p:tool:n2:status",
        "p:tool:n3:stall",
        "p:tool:n4:status",
        "p:tool:n6:status",
    )
    assert [request.failed for request in prediction.requests] == [True, False, False, False]
    assert prediction.next_n == 8
    assert prediction.stratum(0) == "F,T"


kinds = st.sampled_from(
    [Status(), Stall(), Stall(direction="response"), Reset(), Latency(delay_ms=100), Latency(delay_ms=400)]
)
rules = st.lists(st.builds(Rule, kind=kinds, every=st.integers(1, 9)), max_size=3).map(tuple)
schedules = st.builds(
    Schedule,
    prefix=st.just("x"),
    by=st.sampled_from(["attempt", "request"]),
    rules=rules,
    warmup=st.integers(0, 5),
    seed=st.integers(0, 2**64 - 1),
)
calls = st.lists(st.integers(0, 4), max_size=12)


@given(schedule=schedules, calls=calls, retries=st.integers(0, 3), data=st.data())
@example(
    schedule=Schedule(prefix="x", rules=(Rule(kind=Stall(direction="response"), every=2),), warmup=1),
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
    unkeyed = predict(schedule, calls, retries, timeout_s=0.4, side_effects=flags, idempotency=False)
    keyed = predict(schedule, calls, retries, timeout_s=0.4, side_effects=flags)
    for prediction in (unkeyed, keyed):
        assert (prediction.errors, prediction.retries_of_successes) == (errors, retried)
        assert prediction.fault_ids == tuple(ids)
        assert prediction.next_n == scheduler.next_n
        assert prediction.phantoms == len({row for row in ledger if row[0] in failed_requests})
    assert (unkeyed.effects, unkeyed.duplicates) == (len(ledger), len(ledger) - len(set(ledger)))
    assert (keyed.effects, keyed.duplicates) == (len(set(ledger)), 0)


@given(schedule=schedules, calls=calls, retries=st.integers(0, 2), cut=st.integers(0, 12))
def test_a_resumed_cell_goes_on_where_it_stopped(schedule, calls, retries, cut):
    schedule = replace(schedule, by="attempt")
    whole = predict(schedule, calls, retries, timeout_s=1.0)
    first = predict(schedule, calls[:cut], retries, timeout_s=1.0)
    rest = predict(schedule, calls[cut:], retries, first.next_n, timeout_s=1.0)
    assert first.requests + rest.requests == whole.requests


@given(rules=rules, seed=st.integers(0, 2**32), order_seed=st.integers(0, 2**32))
def test_by_request_is_the_same_in_any_order(rules, seed, order_seed):
    schedule = Schedule(prefix="x", by="request", rules=rules, seed=seed)
    keys = [Key(request, call, attempt) for request in range(20) for call in range(2) for attempt in range(2)]
    in_order, shuffled = (
        AttemptScheduler(schedule, concurrency=16),
        AttemptScheduler(schedule, 77, concurrency=16),
    )
    expected = {key: in_order.annotate(key) for key in keys}
    random.Random(order_seed).shuffle(keys)
    assert {key: shuffled.annotate(key) for key in keys} == expected


def test_by_request_hits_about_one_in_every_independently_of_seed():
    for seed in range(5):
        schedule = Schedule(
            prefix="x",
            by="request",
            seed=seed,
            rules=(Rule(kind=Status(), every=4), Rule(kind=Stall(), every=4)),
        )
        prediction = predict(schedule, [1] * 8000, 0)
        letters = Counter(request.stratum for request in prediction.requests)
        # Binomial(8000, 1/4) and, of what the first rule leaves, (8000, 3/16): five standard deviations.
        assert abs(letters["F"] - 2000) < 5 * 38.8
        assert abs(letters["T"] - 1500) < 5 * 35.0


@given(schedule=schedules)
def test_digest_and_ids(schedule):
    assert schedule.digest == replace(schedule).digest
    assert replace(schedule, warmup=schedule.warmup + 1).digest != schedule.digest
    assert replace(schedule, rules=(*schedule.rules, Rule(kind=Status(), every=3))).digest != schedule.digest
    ids = predict(schedule, [3] * 10, 2, timeout_s=0.25).fault_ids
    assert len(set(ids)) == len(ids)


def test_digest_is_the_same_on_every_machine():
    expected = "4339a29dadd12573f9aa5a0aca482f49da11cdda6c52e4feb43e4bde0ae1d3c3"
    assert published(2, 3).digest == expected


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
        (lambda: Rule(kind=Status(), every=0), "every"),
        (lambda: Rule(kind=Status(), every=True), "every"),
        (lambda: Schedule(prefix=""), "prefix"),
        (lambda: Schedule(prefix="x", by="turn"), "by"),
        (lambda: Schedule(prefix="x", site="moon"), "site"),
        (lambda: Schedule(prefix="x", site="tool", hop="model"), "hop"),
        (lambda: Schedule(prefix="x", site="tool", rules=(Rule(kind=Reset(), every=2),)), "reset"),
        (lambda: Schedule(prefix="x", warmup=-1), "warmup"),
        (lambda: Schedule(prefix="x", seed=-1), "seed"),
        (lambda: AttemptScheduler(published(2, 3), 0), "start"),
        (lambda: predict(published(2, 3), [1], -1), "retries"),
        (lambda: predict(published(2, 3), [1], 1, side_effects=[[]]), "side_effects"),
        (
            lambda: predict(Schedule(prefix="x", rules=(Rule(kind=Latency(delay_ms=1), every=1),)), [1], 1),
            "timeout_s",
        ),
    ],
)
def test_impossible_arguments_are_refused(build, says):
    with pytest.raises(TreniError, match=says) as caught:
        build()
    assert caught.value.code.name == "INVALID_ARGUMENT"


def test_every_kind_has_a_letter_of_its_own():
    assert len({kind.letter for kind in KINDS.values()}) == len(KINDS)


def test_who_gave_up_during_a_hang_gets_no_tool():
    """A fault that breaks its host strikes first; a late answer, which the tool gave, leaves its effect."""
    for kind, timeout_s, effects, phantoms in [
        (Hang(duration_ms=300), 0.2, 0, 0),
        (Hang(duration_ms=300), 1.0, 1, 0),
        (Latency(delay_ms=300), 0.2, 1, 1),
        (Crash(), 1.0, 0, 0),
        (Leak(size_mb=1), 1.0, 1, 0),
    ]:
        schedule = Schedule(prefix="p", site="tool", by="request", rules=(Rule(kind=kind, every=1),))
        prediction = predict(schedule, [1], 0, timeout_s=timeout_s, side_effects=[[True]])
        assert (prediction.effects, prediction.phantoms) == (effects, phantoms), kind
    with pytest.raises(TreniError):
        predict(Schedule(prefix="p", site="tool", rules=(Rule(kind=Hang(duration_ms=1), every=1),)), [1], 0)
