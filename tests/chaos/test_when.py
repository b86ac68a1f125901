"""Rates, bursts and their draws: frequencies within binomial bounds, and independence where it is promised."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from chaos.faults import Stall, Status
from chaos.schedule import Rule, Schedule
from chaos.when import Burst, Chain, Every, Rate, When
from tests.chaos.predictions import predict_calls

REQUESTS = 20_000


def _struck(schedule: Schedule, requests: int = REQUESTS, *, call: int = 0, attempt: int = 0) -> list[bool]:
    return [
        schedule.fault_at(n=1, request_index=request, call_index=call, attempt=attempt) is not None
        for request in range(requests)
    ]


def _within(hits: int, trials: int, probability: float) -> bool:
    """Five standard deviations of the binomial; the seeds are fixed, so that it holds always or never."""
    return abs(hits - trials * probability) <= 5 * math.sqrt(trials * probability * (1 - probability))


def _drawn(*whens: When, seed: int = 0) -> Schedule:
    rules = tuple(Rule(kind=Status(), when=when) for when in whens)
    return Schedule(prefix="x", by="request", seed=seed, rules=rules)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_a_rate_is_kept_in_every_place(rate: float, seed: int) -> None:
    schedule = _drawn(Rate(rate=rate), seed=seed)
    for call, attempt in ((0, 0), (3, 0), (0, 2)):
        assert _within(sum(_struck(schedule, call=call, attempt=attempt)), REQUESTS, rate)


def test_a_rate_is_one_in_every() -> None:
    assert _struck(_drawn(Rate(rate=0.25))) == _struck(_drawn(Every(every=4)))


@pytest.mark.parametrize(("enter", "leave"), [(0.05, 0.3), (0.2, 0.2), (0.5, 0.9), (1.0, 0.5)])
@pytest.mark.parametrize("seed", [0, 7])
def test_bursts_last_and_come_as_their_chain_says(enter: float, leave: float, seed: int) -> None:
    """With rate 1 inside and 0 outside, an attempt is struck exactly where its request is inside."""
    inside = _struck(_drawn(Burst(enter=enter, leave=leave, rate=1.0), seed=seed))
    steps = Counter(pairwise(inside))
    outside_steps, inside_steps = (steps[state, False] + steps[state, True] for state in (False, True))
    assert _within(steps[False, True], outside_steps, enter)
    assert _within(steps[True, False], inside_steps, leave)
    share = enter / (enter + leave)
    # A chain that remembers counts for fewer independent requests: by (1 + r) / (1 - r), r its correlation.
    memory = 1 - enter - leave
    spread = math.sqrt(share * (1 - share) * (1 + memory) / (1 - memory) / REQUESTS)
    assert abs(sum(inside) / REQUESTS - share) <= 5 * spread


def test_the_first_request_is_inside_with_the_long_run_share() -> None:
    burst = Burst(enter=0.05, leave=0.3, rate=1.0)
    inside = sum(_struck(_drawn(burst, seed=seed), 1)[0] for seed in range(4000))
    assert _within(inside, 4000, burst.share)


def test_a_burst_is_the_same_for_all_attempts_of_a_request_and_its_rates_are_drawn_for_each() -> None:
    burst = Burst(enter=0.1, leave=0.2, rate=0.6, rate_outside=0.05)
    inside = _struck(_drawn(replace(burst, rate=1.0, rate_outside=0.0)))
    for call, attempt in ((0, 0), (0, 1), (2, 0)):
        struck = _struck(_drawn(burst), call=call, attempt=attempt)
        for state, rate in ((True, 0.6), (False, 0.05)):
            hits = [hit for hit, is_inside in zip(struck, inside, strict=True) if is_inside is state]
            assert _within(sum(hits), len(hits), rate)


@pytest.mark.parametrize("when", [Rate(rate=0.5), Burst(enter=1.0, leave=1.0, rate=0.5, rate_outside=0.5)])
def test_draws_of_calls_attempts_seeds_and_rules_are_independent(when: When) -> None:
    one = _drawn(when)
    # The second of two rules shows where the first, which needs a window that holds nothing here, never strikes.
    never = Rule(kind=Stall(direction="request"), when=Rate(rate=1.0), from_request=REQUESTS)
    second = replace(one, rules=(never, *one.rules))
    series = [
        _struck(one),
        _struck(one, attempt=1),
        _struck(one, call=1),
        _struck(_drawn(when, seed=1)),
        _struck(second),
        _struck(replace(one, hop="model")),
    ]
    for position, first in enumerate(series):
        for other in series[position + 1 :]:
            agree = sum(a == b for a, b in zip(first, other, strict=True))
            assert _within(agree, REQUESTS, 0.5)


def test_chains_of_two_rules_are_independent() -> None:
    burst = Burst(enter=0.5, leave=0.5, rate=1.0)
    never = Rule(kind=Stall(direction="request"), when=Rate(rate=1.0), from_request=REQUESTS)
    one = _drawn(burst)
    agree = sum(
        a == b for a, b in zip(_struck(one), _struck(replace(one, rules=(never, *one.rules))), strict=True)
    )
    assert _within(agree, REQUESTS, 0.5)


def test_a_chain_draws_once_for_each_request_in_whatever_order_they_are_asked() -> None:
    asked = []

    def draw(place: int) -> int:
        asked.append(place)
        return place * 2**60 % 2**64

    chain = Chain(Burst(enter=0.3, leave=0.3, rate=1.0), draw)
    backwards = [chain.inside(place) for place in reversed(range(1000))]
    assert [chain.inside(place) for place in range(1000)] == backwards[::-1]
    assert asked == list(range(1000))


@pytest.mark.parametrize(("rate", "calls"), [(0.1, 1), (0.3, 1), (0.3, 3), (0.6, 2)])
def test_errors_of_independent_faults_fall_with_retries_as_the_powers_of_the_rate(
    rate: float, calls: int
) -> None:
    """Pooled over 200 seeds of 48 requests: 1 - (1 - q^(R+1))^calls of the requests fail."""
    schedule = replace(_drawn(Rate(rate=rate)), cycle=48)
    requests = 48 * 200
    errors = [predict_calls(schedule, [calls] * requests, retries).errors for retries in range(5)]
    assert errors == sorted(errors, reverse=True)
    for retries, failed in enumerate(errors):
        assert _within(failed, requests, 1 - (1 - rate ** (retries + 1)) ** calls)
