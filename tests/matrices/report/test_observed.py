"""What is kept of single runs agrees with what the tables say of all of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from matrices.evidence import events as ev
from matrices.evidence.hops import NAMES
from matrices.report.figures import CellFigures
from matrices.report.observed import Window
from tests.matrices.report.test_report import EVENTS, _figures

CELLS = _figures().cells


def _with(*more: ev.Event) -> CellFigures:
    """The cell p04 with these events before its end."""
    place = next(
        at for at, event in enumerate(EVENTS) if isinstance(event, ev.CellEnded) and event.cell == "p04"
    )
    return _figures([*EVENTS[:place], *more, *EVENTS[place:]]).cells[2]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.config.name)
def test_single_runs_add_up_to_what_the_tables_say(cell: CellFigures) -> None:
    seen = cell.observed
    assert len(seen.pairs) == cell.pairs == 48
    for place, arm in enumerate(cell.arms):
        runs = [pair.runs[place] for pair in seen.pairs]
        assert {run.arm for run in runs} == {arm.arm}
        assert sum(not run.ok for run in runs) == arm.errors
        assert sum(run.retries for run in runs if run.ok) == arm.retries_of_successes
        assert sum(len(run.faults) for run in runs) == len(arm.faults.delivered)
        assert sum(run.duplicates for run in runs) == arm.effects.duplicate
        assert arm.latency is not None
        assert math.fsum(run.latency_s for run in runs) / len(runs) == pytest.approx(arm.latency.mean_s)
        for run in runs:
            assert run.parts is not None
            assert math.fsum(getattr(run.parts, name) for name in NAMES) == pytest.approx(run.latency_s)
    assert min(run.start_s for pair in seen.pairs for run in pair.runs) == 0
    assert len(seen.blocks) == cell.blocks


def test_a_window_for_every_fault_lies_in_the_run_that_met_it() -> None:
    seen = CELLS[2].observed
    runs = {run.run_id: run for pair in seen.pairs for run in pair.runs}
    assert len(seen.windows) == 16
    for window in seen.windows:
        fault, run_id = window.label.split(" in ")
        run = runs[run_id]
        assert fault in run.faults
        assert run.start_s <= window.start_s < window.end_s <= run.start_s + run.latency_s + 1e-9


def test_strikes_and_outages_are_windows_too() -> None:
    at_s = next(event.mono_s for event in EVENTS if isinstance(event, ev.Invoke) and event.cell == "p04")
    outage = ev.Outage(
        cell="p04", role="tools", arm="external", start_s=at_s + 1, end_s=at_s + 2, probes_lost=3
    )
    struck = ev.Struck(
        cell="p04", fault_id="p04:x", run_id="r", host="far", roles=("model",), struck_s=at_s + 3, error_s=0.0
    )
    healed = ev.Healed(
        cell="p04", fault_id="p04:x", run_id="r", host="far", lasted_s=1.0, healed_s=at_s + 4, back_s=at_s + 5,
        error_s=0.0, packets=0, pids={},
    )  # fmt: skip
    found = [one for one in _with(outage, struck, healed).observed.windows if one.kind != "fault"]
    assert [replace(one, start_s=round(one.start_s, 6), end_s=round(one.end_s, 6)) for one in found] == [
        Window(kind="outage", label="tools of external did not answer", start_s=1, end_s=2),
        Window(kind="strike", label="p04:x on far (model)", start_s=3, end_s=5),
    ]


def test_a_duplicate_is_seen_in_the_run_that_made_it() -> None:
    row = ev.EffectRow(
        run_id="p04/0/external/0", task_id="task0", attempt=0, idempotency_key="k", account="rent", amount=5
    )
    cell = _with(ev.Effects(cell="p04", arm="external", rows=(row, row)))
    by_run = {run.run_id: run.duplicates for pair in cell.observed.pairs for run in pair.runs}
    assert by_run["p04/0/external/0"] == cell.arms[1].effects.duplicate > 0
    assert sum(by_run.values()) == by_run["p04/0/external/0"]


def test_the_time_of_another_machine_start_goes_on_where_the_first_ended() -> None:
    """Half of the cell was run before a reboot, after which the monotonic clock began again."""
    at = [
        place
        for place, event in enumerate(EVENTS)
        if isinstance(event, ev.PairStarted) and event.cell == "p04"
    ]
    middle = at[24]
    start = next(event for event in EVENTS if isinstance(event, ev.CellStarted) and event.cell == "p04")

    def later(event: ev.Event) -> ev.Event:
        if isinstance(event, ev.Invoke | ev.Block) and event.cell == "p04":
            return replace(event, mono_s=event.mono_s - 1000)
        return event

    events = [
        *EVENTS[:middle],
        ev.Resumed(wall_time="2026-01-01T00:00:00+00:00", cut_bytes=0),
        replace(start, epoch=1, start_counter={}),
        *map(later, EVENTS[middle:]),
    ]
    runs = [run for pair in _figures(events).cells[2].observed.pairs for run in pair.runs]
    first, rest = runs[:48], runs[48:]
    assert min(run.start_s for run in rest) >= max(run.start_s + run.latency_s for run in first) - 1e-6
    assert max(run.start_s for run in rest) < 1000
