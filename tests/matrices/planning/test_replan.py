"""A campaign that is planned again from its folder is the one that was planned: options, cells, expectations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matrices.evidence import chain
from matrices.evidence import events as ev
from matrices.evidence.campaign import (
    Options,
    load_campaign,
    plan_campaign,
    write_campaign,
)
from matrices.evidence.history import HistoryWriter
from matrices.evidence.kept import HISTORY, MANIFEST, SUITE
from matrices.evidence.manifest import Manifest, ManifestCell, Version, dump_manifest, read_manifest
from matrices.spec.profiles import PolicySpec, select_profiles
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


def test_the_aa_cell_of_an_older_format_had_the_default_policy_and_still_has(tmp_path: Path) -> None:
    profiles, sweep = expand(select_profiles("p00"), [parse_setting("policy.tool_timeout=1.5s")])
    planned = plan_campaign(tmp_path, _options(fault_seeds=1, sweep=sweep), profiles)
    assert planned.cells[0].profile.policy.tool_timeout == 1.5
    write_campaign(planned, inference_pb2.InfoResponse(model="m"), toxiproxy="2.12.0", hosts={})
    manifest = read_manifest(tmp_path / MANIFEST)
    older = PolicySpec().model_dump(mode="json")
    _as_written(tmp_path, replace(manifest, version=3, cells=_with_policy(manifest.cells, older)))
    loaded, _, _ = load_campaign(tmp_path)
    assert loaded.cells[0].profile.policy == PolicySpec()
    mixtures: list[tuple[Version, dict[str, Any]]] = [(4, older), (3, manifest.cells[0].policy)]
    for version, policy in mixtures:
        mixed = replace(manifest, version=version, cells=_with_policy(manifest.cells, policy))
        _as_written(tmp_path, mixed)
        with pytest.raises(TreniError, match="policy of aa"):
            load_campaign(tmp_path)


def _with_policy(cells: tuple[ManifestCell, ...], policy: dict[str, Any]) -> tuple[ManifestCell, ...]:
    """The cells, the A/A one with another policy."""
    return (replace(cells[0], policy=policy), *cells[1:])


def _as_written(folder: Path, manifest: Manifest) -> None:
    """Makes `manifest` the folder's, with a history that begins with its digest."""
    written = dump_manifest(manifest)
    (folder / MANIFEST).write_bytes(written)
    suite = chain.digest((folder / SUITE).read_bytes())
    (folder / HISTORY).unlink(missing_ok=True)
    opened = ev.Opened(version=manifest.version, manifest_sha256=chain.digest(written), suite_sha256=suite)
    HistoryWriter.create(folder / HISTORY, opened).close()


def test_several_fault_seeds_of_a_schedule_by_attempt_are_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    with pytest.raises(TreniError, match='by = "request"'):
        plan_campaign(tmp_path, _options(fault_seeds=2), select_profiles("p00,p04"))
