"""Schedules for tests: the published ones, and strategies that draw any."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from chaos.faults import Latency, Reset, Stall, Status
from chaos.schedule import Rule, Schedule
from chaos.when import Burst, Every, Rate


@dataclass(frozen=True)
class Key:
    """The name of an attempt."""

    request_index: int
    call_index: int = 0
    attempt: int = 0
    hop: str = "tool"


def published(fail_every: int | None, stall_every: int | None) -> Schedule:
    """Every so many attempts one fails, and one stalls: as in p01 to p05."""
    rules = []
    if fail_every is not None:
        rules.append(Rule(kind=Status(), when=Every(every=fail_every)))
    if stall_every is not None:
        rules.append(Rule(kind=Stall(direction="request"), when=Every(every=stall_every)))
    return Schedule(prefix="p", rules=tuple(rules), warmup=1)


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
