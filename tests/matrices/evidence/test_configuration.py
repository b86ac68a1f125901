"""What two manifests differ in, key by key."""

from __future__ import annotations

from dataclasses import replace

from matrices.evidence.campaign import load_campaign
from matrices.evidence.configuration import configuration_differences
from matrices.evidence.manifest import read_manifest
from tests.places import ROOT

KEPT = ROOT / "examples" / "matrix-h200" / "run" / "manifest.json"
SPLIT = ROOT / "examples" / "matrix-h200-split" / "run"


def test_a_manifest_differs_from_itself_in_nothing_and_when_it_was_made_is_nothing() -> None:
    manifest = read_manifest(KEPT)
    assert configuration_differences(manifest, manifest) == ()
    assert configuration_differences(manifest, replace(manifest, created_utc="later")) == ()


def test_each_key_is_told_with_both_values_and_its_cell() -> None:
    manifest = read_manifest(KEPT)
    cell = replace(manifest.cells[1], policy=manifest.cells[1].policy | {"retries": 7})
    other = replace(
        manifest,
        seed=5,
        host=manifest.host | {"machine": "abacus"},
        model=replace(manifest.model, device="cpu"),
        cells=(manifest.cells[0], cell, *manifest.cells[2:-1]),
        suite=replace(manifest.suite, tasks=manifest.suite.tasks[:4]),
    )
    found = {
        (one.cell, one.key): (one.first, one.second) for one in configuration_differences(manifest, other)
    }
    assert found[("", "seed")] == (str(manifest.seed), "5")
    assert found[("", "host.machine")][1] == '"abacus"'
    assert found[("", "model.device")][1] == '"cpu"'
    assert found[("p00", "policy.retries")] == (str(manifest.cells[1].policy["retries"]), "7")
    assert found[("", "suite.tasks")][1].startswith("4 tasks")
    assert "p05" in found[("", "cells")][0]
    assert "p05" not in found[("", "cells")][1]
    assert len(found) == 6


def test_the_order_of_keys_is_no_difference() -> None:
    first, second = read_manifest(KEPT), load_campaign(SPLIT)[1]
    assert not [one for one in configuration_differences(first, second) if one.key == "schedule.rules"]
