"""Drawn schedules end to end: every count of every fault seed as predicted, one request at a time and eight at once.

By default two schedules under two fault seeds; `make schedules` runs all eleven under eight.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from matrices.evidence.campaign import load_campaign
from matrices.evidence.events import Outcome
from matrices.evidence.history import state_of
from matrices.planning.plan import PlannedCell
from tests.matrices import harness as h

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

FAULT_SEEDS = int(os.environ.get("TRENI_FAULT_SEEDS", "2"))

STALL = 'kind = "stall"\ndirection = "request"\n'
LOST = 'kind = "stall"\ndirection = "response"\n'
STATUS = 'kind = "status"\n'
RESET = 'kind = "reset"\n'
LATE = 'kind = "latency"\ndelay = "30ms"\n'
TOO_LATE = 'kind = "latency"\ndelay = "2500ms"\n'

SCHEDULES: dict[str, tuple[str, int, list[str]]] = {
    # What [faults] says, the retries, and the rules. Stalls are rare: each takes its whole timeout of two seconds.
    "mixed": (
        "",
        1,
        [
            f"{STALL}rate = 0.5\nfrom_request = 2\nto_request = 3",
            f"{STATUS}burst = {{ enter = 0.3, leave = 0.4, rate = 0.9, rate_outside = 0.05 }}",
            f"{STATUS}code = 'INTERNAL'\nrate = 0.15",
        ],
    ),
    "rate": ("", 0, [f"{STATUS}rate = 0.3"]),
    "persistent": ("", 3, [f"{STATUS}rate = 0.6", f"{LATE}rate = 0.5"]),
    "bursts": ("", 2, [f"{STATUS}burst = {{ enter = 0.2, leave = 0.3, rate = 0.8 }}"]),
    "blackout": ("", 2, [f"{STATUS}rate = 0.8\nfrom_request = 2\nto_request = 5"]),
    "resets": ("", 1, [f"{RESET}rate = 0.25", f"{STATUS}rate = 0.2\nfrom_request = 4"]),
    "lost": ("", 1, [f"{LOST}rate = 0.08", f"{STATUS}rate = 0.2"]),
    "late": ("", 1, [f"{TOO_LATE}rate = 0.06", f"{LATE}every = 3\nto_request = 6"]),
    "attool": (
        'site = "tool"',
        1,
        [f"{STATUS}burst = {{ enter = 0.4, leave = 0.4, rate = 0.7 }}", f"{STALL}rate = 0.04"],
    ),
    "bothhops": (
        "",
        1,
        [
            f"{STATUS}rate = 0.25",
            f"{LOST}rate = 0.05",
            f'hop = "model"\n{RESET}rate = 0.15',
            f'hop = "model"\n{LATE}rate = 0.3',
        ],
    ),
    "atmodel": ('hop = "model"', 2, [f"{STATUS}rate = 0.25", f"{RESET}rate = 0.1\nfrom_request = 1"]),
}
EVERY_CASE = [(name, concurrency) for name in SCHEDULES for concurrency in (1, 8)]
QUICK = [("mixed", 8)]
CASES = EVERY_CASE if os.environ.get("TRENI_SCHEDULES") == "all" else QUICK


def _profile(path: Path) -> Path:
    faults, retries, rules = SCHEDULES[path.stem]
    path.write_text(
        f'name = "{path.stem}"\ntitle = "a schedule of the tests"\n[policy]\nretries = {retries}\n'
        f'tool_timeout = "2s"\nbackoff_initial = "20ms"\n[faults]\nby = "request"\nseed = 11\n{faults}\n'
        + "".join(f"[[faults.rules]]\n{rule}\n" for rule in rules),
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(("name", "concurrency"), CASES)
def test_every_count_of_every_fault_seed_is_as_predicted(tmp_path: Path, name: str, concurrency: int) -> None:
    result = h.matrix(
        tmp_path / "out",
        str(_profile(tmp_path / f"{name}.toml")),
        *("--suite", "tool_only", "--runs", "2", "--fault-seeds", str(FAULT_SEEDS)),
        *("--concurrency", str(concurrency)),
    )
    assert result.status in (0, 3), result.stdout + result.stderr
    campaign, manifest, history = load_campaign(result.folder)
    assert manifest.fault_seeds == FAULT_SEEDS
    (_, cell) = campaign.cells
    assert len(cell.pairs) == 8 * FAULT_SEEDS
    assert len(set(_by_seed(cell))) > 1, "these seeds show nothing"
    outcomes = state_of(history.events)[name].completed
    hops = cell.profile.faults.hops
    for arm in cell.arms:
        runs = [outcomes[pair.pair].outcomes[arm] for pair in cell.pairs]
        prediction = cell.prediction(arm)
        if prediction is None:
            assert _counts(runs, hops)[:2] == (0, 0)
            continue
        size = len(runs) // FAULT_SEEDS
        found = [_counts(runs[g * size : (g + 1) * size], hops) for g in range(FAULT_SEEDS)]
        assert found == _by_seed(cell)
        assert tuple(fault for run in runs for fault in _faults(run, hops)) == prediction.fault_ids
        row = result.summary(name, arm)
        assert int(row["errors"]) == prediction.errors
        assert float(row["retries_mean_success"]) == pytest.approx(prediction.retries_mean_success, abs=5e-7)
        for stage in ("planned", "delivered", "observed"):
            assert int(row[f"faults_{stage}"]) == len(prediction.fault_ids)


def _by_seed(cell: PlannedCell) -> list[tuple[int, int, int, int]]:
    """(errors, retries of successes, attempts on the hops, faults) as predicted for each seed alone."""
    found = []
    for group in cell.by_fault_seed():
        one = group.prediction("external")
        assert one is not None
        found.append((one.errors, one.retries_of_successes, one.attempts, len(one.fault_ids)))
    return found


def _counts(runs: list[Outcome], hops: Collection[str]) -> tuple[int, int, int, int]:
    """The same as they happened."""
    attempts = [_attempts(run, hops) for run in runs]
    retries = sum(
        sum(attempt["attempt"] > 0 for attempt in tried)
        for run, tried in zip(runs, attempts, strict=True)
        if run.error is None
    )
    faults = sum(len(_faults(run, hops)) for run in runs)
    return sum(run.error is not None for run in runs), retries, sum(map(len, attempts)), faults


def _attempts(run: Outcome, hops: Collection[str]) -> list[dict[str, Any]]:
    assert run.record is not None
    return [attempt for attempt in run.record["attempts"] if attempt["hop"] in hops]


def _faults(run: Outcome, hops: Collection[str]) -> list[str]:
    return [attempt["fault_id"] for attempt in _attempts(run, hops) if attempt["fault_id"]]
