"""A cell that broke and was run again: nothing of what came before the discard counts, and nothing else is excused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults import Stall, Status
from chaos.schedule import Rule, Schedule
from chaos.when import Every
from matrices.arms.registry import DEFAULT
from matrices.checks.check import CellJudgement, check
from matrices.checks.collateral import evidence_of
from matrices.evidence import events as ev
from matrices.evidence.history import standing, state_of
from tests.matrices import faithful as f
from tests.matrices import histories as h

SCHEDULE = Schedule(
    prefix="p04",
    rules=(
        Rule(kind=Status(), when=Every(every=2)),
        Rule(kind=Stall(direction="request"), when=Every(every=3)),
    ),
    warmup=1,
)
EVENTS, EXPECTATION = f.campaign_cell("p04", schedule=SCHEDULE)
MANIFEST = h.manifest(h.manifest_cell("p04", profile="p04_mixed_aggressive", site="hop"), runs=12)
LAST = len(EVENTS) - 1
EPOCHS = {"runtime": "a", "controller": "b", "tools": "c"}
BROKEN = ev.CellEnded(cell="p04", status="broken", detail="tools was killed by SIGKILL")


def _judge(events: list[ev.Event], **of_campaign: Any) -> CellJudgement:
    return check(replace(MANIFEST, **of_campaign), events, [EXPECTATION])[0]


def _kinds(events: list[ev.Event], **of_campaign: Any) -> set[str]:
    return {finding.kind for finding in _judge(events, **of_campaign).findings}


def _again(value: Any) -> Any:
    """The same in the second epoch: run ids and the keys made of them end in another number."""
    if isinstance(value, str):
        return value.replace("/external/0", "/external/1").replace("/internal/0", "/internal/1")
    if isinstance(value, Mapping):
        return {key: _again(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_again, value))
    if isinstance(value, ev.Delivery | ev.EffectRow):
        return replace(value, **{name: _again(getattr(value, name)) for name in value.__dataclass_fields__})
    return value


def _whole_again() -> list[ev.Event]:
    made: list[Any] = []
    for event in EVENTS:
        if isinstance(event, ev.CellStarted):
            made.append(replace(event, epoch=1))
        else:
            made.append(replace(event, **{name: _again(getattr(event, name)) for name in _fields(event)}))
    return f.timed(made, at_s=2000.0)


def _fields(event: ev.Event) -> list[str]:
    return [name for name in event.__dataclass_fields__ if name != "type"]


def _healed(cut: int) -> list[ev.Event]:
    """Broken after `cut` events, resumed, and run again from the start."""
    later = (datetime.fromisoformat(h.WALL) + timedelta(seconds=1000)).isoformat()
    discard = ev.Discard(cell="p04", why=BROKEN.detail)
    return [*EVENTS[:cut], BROKEN, ev.Resumed(wall_time=later, cut_bytes=0), discard, *_whole_again()]


@settings(max_examples=30)
@given(cut=st.integers(1, LAST))
def test_wherever_it_broke_the_second_run_is_judged_alone(cut: int) -> None:
    judged = _judge(_healed(cut))
    assert judged.findings == ()
    assert judged.complete
    assert judged.discarded == (BROKEN.detail,)
    assert judged.abandoned == ()
    # Who kills a cell until the result suits him throws pairs away, and a gate counts them.
    assert judged.pairs_discarded == sum(isinstance(event, ev.PairStarted) for event in EVENTS[:cut])
    assert (judged.faults["external"].superseded, judged.effects["external"].superseded) == (0, 0)
    whole = _judge(EVENTS)
    assert judged.faults["external"] == whole.faults["external"]
    assert judged.effects["external"] == whole.effects["external"]


@settings(max_examples=30)
@given(cut=st.integers(1, LAST))
def test_until_then_it_is_broken_and_that_is_all_there_is_to_say(cut: int) -> None:
    judged = _judge([*EVENTS[:cut], BROKEN])
    assert [finding.kind for finding in judged.findings] == ["cell_broken"]
    assert not judged.complete


def test_a_discard_of_a_cell_that_was_not_broken_is_found() -> None:
    events = [event for event in _healed(40) if event != BROKEN]
    assert "event_stray" in _kinds(events)


def test_a_discard_without_a_resumption_is_found() -> None:
    events: list[ev.Event] = [event for event in _healed(40) if not isinstance(event, ev.Resumed)]
    assert "event_stray" in _kinds(events)


def test_a_seal_on_a_broken_cell_is_found() -> None:
    judged = check(MANIFEST, [*EVENTS[:40], BROKEN, ev.Sealed()], [EXPECTATION])
    assert {finding.kind for one in judged for finding in one.findings} == {"cell_broken", "event_stray"}


def test_what_goes_wrong_after_a_discard_is_found_as_ever() -> None:
    events = _healed(40)
    place = next(n for n, event in enumerate(events) if isinstance(event, ev.PairCompleted) and n > 60)
    assert {"pair_missing"} <= _kinds(events[:place] + events[place + 1 :])


def test_runs_before_a_discard_are_nobodys() -> None:
    """A row that the first run left in the ledger of the second is a stranger there."""
    events = [
        replace(event, rows=(*event.rows, h.effect(h.run_id("p04", 0, "external"))))
        if isinstance(event, ev.Effects) and event.arm == "external"
        else event
        for event in _healed(60)
    ]
    assert _kinds(events) == {"effect_stranger"}


def test_what_stands_is_what_is_folded() -> None:
    events = _healed(60)
    whole, rest = state_of(events)["p04"], state_of(standing(events))["p04"]
    assert (whole.completed, whole.ended, whole.starts) == (rest.completed, rest.ended, rest.starts)
    assert [discard.why for discard in whole.discards] == [BROKEN.detail]
    told = evidence_of(events, "p04", comparison=DEFAULT, fatal=())
    assert {flight.run_id[-2:] for flight in told.flights} == {"/1"}


def _started(**changes: Any) -> list[ev.Event]:
    return [replace(event, **changes) if isinstance(event, ev.CellStarted) else event for event in EVENTS]


PIDS = {"runtime": 11, "controller": 13, "tools": 14}


@pytest.mark.parametrize(
    ("changes", "topology", "kinds"),
    [
        ({"epochs": EPOCHS}, "local", set()),
        ({"epochs": {**EPOCHS, "tools": "a"}}, "local", {"start_not_as_planned"}),
        ({"epochs": {**EPOCHS, "tools": ""}}, "local", {"start_not_as_planned"}),
        ({"epochs": {"runtime": "a"}}, "local", {"start_not_as_planned"}),
        ({"epochs": {**EPOCHS, "toxiproxy": "d"}}, "local", {"start_not_as_planned"}),
        # Elsewhere the proxies are nobody's process, and each host counts its own.
        ({"epochs": EPOCHS, "pids": PIDS}, "hosts", set()),
        ({"epochs": EPOCHS, "pids": {**PIDS, "controller": 14}}, "hosts", set()),
        ({"epochs": EPOCHS, "pids": {**PIDS, "controller": 14}}, "local", {"start_not_as_planned"}),
        ({"epochs": EPOCHS, "pids": PIDS}, "local", {"start_not_as_planned"}),
        ({"epochs": {**EPOCHS, "tools": "a"}, "pids": PIDS}, "hosts", {"start_not_as_planned"}),
    ],
)
def test_roles_are_told_apart_by_their_epochs_and_on_one_machine_by_their_processes(
    changes: dict[str, Any], topology: str, kinds: set[str]
) -> None:
    found = _kinds(_started(**changes), topology=topology)
    assert found - {"arm_swapped"} == kinds
