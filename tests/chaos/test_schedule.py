"""The schedule is pure: the published table exactly, which attempts it strikes, and what it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults import FAULTS, Fault, Latency, Reset, ServicePaused, Stall, Status, fault_of
from chaos.prediction import predict
from chaos.schedule import WARMUP_REQUEST, AttemptScheduler, Rule, Schedule
from chaos.when import Burst, Every, Rate, When
from tests.chaos.predictions import predict_calls
from tests.chaos.schedules import Key, drawn, published, schedules
from treni.errors import TreniError

SUITE = [1 if request % 4 == 3 else 0 for request in range(48)]
"""48 requests, every fourth of which calls a tool: 12 tool tasks."""


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
def test_published_counts(
    fail_every: int | None, stall_every: int | None, retries: int, errors: int, retried: int, successes: int
) -> None:
    prediction = predict_calls(published(fail_every, stall_every), SUITE, retries)
    counts = (prediction.errors, prediction.retries_of_successes, prediction.successes)
    assert counts == (errors, retried, successes)


def test_published_rates_as_printed() -> None:
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


def test_the_published_counts_need_the_warm_up_attempt() -> None:
    cold = predict_calls(replace(published(2, 3), warmup=0), SUITE, 2)
    assert (cold.errors, cold.retries_of_successes) != (4, 4)


def test_the_first_attempts_of_p04_by_hand() -> None:
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


@given(schedule=drawn, low=st.integers(0, 10), size=st.integers(1, 10))
def test_a_window_strikes_inside_and_nowhere_else(schedule: Schedule, low: int, size: int) -> None:
    rules = tuple(replace(rule, from_request=low, to_request=low + size) for rule in schedule.rules)
    windowed = replace(schedule, rules=rules, cycle=None)
    everywhere = replace(windowed, rules=tuple(replace(r, from_request=0, to_request=None) for r in rules))
    for request in range(25):
        for attempt in range(3):
            place = {"n": 1, "request_index": request, "call_index": 0, "attempt": attempt}
            expected = everywhere.fault_at(**place) if low <= request < low + size else None
            assert windowed.fault_at(**place) == expected


def test_by_request_hits_about_one_in_every_independently_of_seed() -> None:
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
def test_digest_and_ids(schedule: Schedule) -> None:
    assert schedule.digest == replace(schedule).digest
    assert replace(schedule, warmup=schedule.warmup + 1).digest != schedule.digest
    assert replace(schedule, cycle=(schedule.cycle or 0) + 1).digest != schedule.digest
    assert (
        replace(schedule, rules=(*schedule.rules, Rule(kind=Status(), when=Every(every=3)))).digest
        != schedule.digest
    )
    ids = predict_calls(schedule, [3] * 10, 2, timeout_s=0.25).fault_ids
    assert len(set(ids)) == len(ids)


def test_digest_is_the_same_on_every_machine() -> None:
    expected = "4339a29dadd12573f9aa5a0aca482f49da11cdda6c52e4feb43e4bde0ae1d3c3"
    assert published(2, 3).digest == expected


def test_every_field_of_a_rule_is_in_the_digest() -> None:
    burst = Burst(enter=0.1, leave=0.2, rate=0.3, rate_outside=0.05)
    whens: list[When] = [
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


def test_warm_up_and_other_hops_are_neither_faulted_nor_counted() -> None:
    scheduler = AttemptScheduler(replace(published(1, None), warmup=0))
    assert scheduler.annotate(Key(WARMUP_REQUEST)) == {}
    assert scheduler.annotate(Key(0, hop="model")) == {}
    assert scheduler.next_n == 1
    fault = fault_of(scheduler.annotate(Key(0)))
    assert fault is not None
    assert fault.id == "p:tool:n1:status"
    assert scheduler.next_n == 2


def test_by_attempt_refuses_concurrency() -> None:
    with pytest.raises(TreniError, match="one request at a time"):
        AttemptScheduler(published(2, 3), concurrency=2)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Rule(kind=Status(), when=Every(every=0)), "every"),
        (lambda: Rule(kind=Status(), when=Every(every=True)), "every"),
        (lambda: Rule(kind=Status(), when=0.5), "when"),  # type: ignore[arg-type]
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
        (lambda: Schedule(prefix="x", by="turn"), "by"),  # type: ignore[arg-type]
        (lambda: Schedule(prefix="x", site="moon"), "site"),  # type: ignore[arg-type]
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
def test_impossible_arguments_are_refused(build: Callable[[], object], says: str) -> None:
    with pytest.raises(TreniError, match=says) as caught:
        build()
    assert caught.value.code.name == "INVALID_ARGUMENT"


def test_every_kind_has_a_letter_of_its_own() -> None:
    assert len({kind.letter for kind in FAULTS.values()}) == len(FAULTS)


def test_kinds_that_one_letter_would_name_are_refused_together() -> None:
    class Delay(Latency):
        name: ClassVar[str] = "delay"

    rules = (
        Rule(kind=Latency(delay_ms=1), when=Every(every=2)),
        Rule(kind=Delay(delay_ms=1), when=Every(every=3)),
    )
    with pytest.raises(TreniError, match="letters differ"):
        Schedule(prefix="x", rules=rules)


def test_a_host_is_struck_by_a_requests_first_call_and_by_no_other() -> None:
    rules = (Rule(kind=ServicePaused(duration_ms=1), when=Every(every=1)),)
    schedule = Schedule(prefix="n", site="host", hop="model", by="request", rules=rules)

    def fault(call: int, attempt: int) -> Fault | None:
        return schedule.fault_at(n=1, request_index=3, call_index=call, attempt=attempt)

    first = fault(0, 0)
    assert first is not None
    assert (first.id, first.how(in_process=False)) == ("n:model:r3c0a0:service_paused", "host")
    assert [fault(call, attempt) for call, attempt in ((0, 1), (1, 0), (2, 3))] == [None] * 3
    with pytest.raises(TreniError, match='by = "request"'):
        Schedule(prefix="n", site="host", rules=rules)
