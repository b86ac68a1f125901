"""A campaign that is planned again from its folder is the one that was planned: options, cells, expectations."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrices.evidence.campaign import HISTORY, Options, load_campaign, plan_campaign, write_campaign
from matrices.evidence.history import HistoryWriter
from matrices.spec.profiles import select_profiles
from matrices.spec.sweeps import SweptCell, expand, parse_setting
from treni.errors import TreniError
from treni.v1 import inference_pb2


def _options(*, fault_seeds: int, sweep: tuple[SweptCell, ...] = ()) -> Options:
    return Options(
        suite="core",
        runs=2,
        seed=5,
        concurrency=1,
        topology="local",
        backend="numpy",
        model_dir=None,
        idempotency=True,
        margin=0.05,
        restarts=1,
        toxiproxy=None,
        fault_seeds=fault_seeds,
        sweep=sweep,
    )


@pytest.mark.parametrize(
    ("selection", "fault_seeds", "settings"),
    [
        ("p00..p05", 1, []),
        ("p01t..p05t", 1, ["policy.retries=0..2"]),
        ("p00,r01..r05", 1, []),
        ("p00,r01..r05", 3, []),
        ("r01,r04", 2, ["policy.tool_timeout=100ms,1.5s", "faults.seed=7,9"]),
    ],
)
def test_a_folder_gives_back_what_was_planned(
    tmp_path: Path, selection: str, fault_seeds: int, settings: list[str]
) -> None:
    profiles, sweep = expand(select_profiles(selection), [parse_setting(text) for text in settings])
    planned = plan_campaign(tmp_path, _options(fault_seeds=fault_seeds, sweep=sweep), profiles)
    opened = write_campaign(planned, inference_pb2.InfoResponse(model="m"), toxiproxy="2.12.0", hosts={})
    HistoryWriter.create(tmp_path / HISTORY, opened).close()
    loaded, manifest, _ = load_campaign(tmp_path)
    assert (manifest.fault_seeds, manifest.sweep) == (fault_seeds, sweep)
    assert loaded.options == planned.options
    assert loaded.expectations == planned.expectations
    assert [cell.profile for cell in loaded.cells] == [cell.profile for cell in planned.cells]
    aa, *cells = loaded.cells
    assert {len(cell.pairs) for cell in cells} == {len(aa.pairs) * fault_seeds}


def test_several_fault_seeds_of_a_schedule_by_attempt_are_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    with pytest.raises(TreniError, match='by = "request"'):
        plan_campaign(tmp_path, _options(fault_seeds=2), select_profiles("p00,p04"))
