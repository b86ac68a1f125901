"""One faithful campaign under the faults of p04, judged whole or with something in it changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chaos.faults import Stall, Status
from chaos.schedule import Rule, Schedule
from chaos.when import Every
from matrices.checks.check import CellJudgement, check
from matrices.evidence import events as ev
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
EXT, INT = "external", "internal"
EVENTS, EXPECTATION = f.campaign_cell("p04", schedule=P04)
(STARTED,) = [event for event in EVENTS if isinstance(event, ev.CellStarted)]
MANIFEST = h.manifest(h.manifest_cell("p04", profile="p04_mixed_aggressive", site="hop"), runs=12)


def judge(events: list[ev.Event]) -> CellJudgement:
    """What the checker says of the cell with this history."""
    return check(MANIFEST, events, [EXPECTATION])[0]


def where(**fields: Any) -> Callable[[ev.Event], bool]:
    """Whether an event has these values."""
    return lambda event: all(getattr(event, name, None) == value for name, value in fields.items())


def without(**fields: Any) -> list[ev.Event]:
    """The history without the events that have these values."""
    match = where(**fields)
    kept = [event for event in EVENTS if not match(event)]
    assert len(kept) < len(EVENTS)
    return kept


def changed(change: Callable[[Any], ev.Event], **fields: Any) -> list[ev.Event]:
    """The history with the events that have these values changed."""
    match = where(**fields)
    assert any(match(event) for event in EVENTS)
    return [change(event) if match(event) else event for event in EVENTS]


def record(change: Callable[[dict[str, Any]], Any]) -> Callable[[ev.Outcome], ev.Outcome]:
    """Changes an outcome's record."""

    def apply(outcome: ev.Outcome) -> ev.Outcome:
        assert outcome.record is not None
        copied = {**outcome.record, "attempts": [dict(one) for one in outcome.record["attempts"]]}
        change(copied)
        return replace(outcome, record=copied)

    return apply


FAULTED = 0  # the first tool task meets n = 2 and n = 3: both its attempts fail
RETRIED = 4  # the next meets n = 4, and succeeds at its retry n = 5
CLEAN = 1

assert not EXPECTATION.pairs[FAULTED].runs["external"].ok
assert EXPECTATION.pairs[RETRIED].runs["external"].retries == 1
assert EXPECTATION.pairs[RETRIED].runs["external"].ok


def set_to(**changes: Any) -> Callable[[Any], ev.Event]:
    """Gives an event other values."""
    return lambda event: replace(event, **changes)


def outcome_of(pair: int, arm: str = "external") -> dict[str, Any]:
    """The values by which the outcome of a run is found."""
    return {"type": "outcome", "pair": pair, "arm": arm}
