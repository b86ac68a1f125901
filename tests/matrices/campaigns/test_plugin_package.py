"""The package in examples/plugin is installed as a user would, and a campaign runs with all that it adds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from matrices.command_line import bundled_checkpoint
from matrices.evidence.events import Deliveries
from matrices.evidence.history import read_history
from tests.matrices import harness as h
from tests.places import ROOT

PACKAGE = ROOT / "examples" / "plugin"

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder into which pip installed the package, where every process that is started from here finds it."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(PACKAGE, source)  # pip builds in place
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site), str(source)],
        check=True,
        timeout=h.WAIT_S,
    )
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{path}" if path else str(site))
    return site


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The bundled weights as a model of the package's architecture."""
    folder = tmp_path / "example-tiny"
    shutil.copytree(bundled_checkpoint(), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["ExampleForCausalLM"], "model_type": "example"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_campaign_runs_with_one_of_everything(tmp_path: Path, installed: Path, model: Path) -> None:
    profile = PACKAGE / "detour.toml"
    result = h.matrix(
        tmp_path / "out",
        f"{profile},{profile}:t",
        *("--suite", str(PACKAGE / "lines.jsonl"), "--runs", "2"),
        *("--topology", "tidy:me", "--compare", "beside:external", "--model", str(model)),
    )
    assert result.status in (0, 3), result.stdout + result.stderr
    assert h.verb("check", result.folder).returncode == 0
    delivered = {
        (event.cell, event.arm, row.kind)
        for event in read_history(result.folder / "history.jsonl").events
        if isinstance(event, Deliveries)
        for row in event.faults
    }
    for cell in ("detour", "detourt"):
        assert (result.folder / "cells" / cell / "owner").read_text(encoding="utf-8") == "me"
        assert {(cell, arm, "detour") for arm in ("beside", "external")} <= delivered
        row = result.comparison(cell)
        assert row["faults_planned"] == row["faults_delivered"] == row["faults_observed"] != "0"
        assert row["findings"] == "0"
        for arm in ("beside", "external"):
            assert result.summary(cell, arm)["accuracy"] == "1.000000"
            assert int(result.summary(cell, arm)["tool_calls"]) > 0


def test_without_the_package_nothing_of_it_is_known(tmp_path: Path, model: Path) -> None:
    for arguments, said in (
        (("p00", "--suite", str(PACKAGE / "lines.jsonl")), "no grader 'mentions'"),
        ((str(PACKAGE / "detour.toml"),), "detour"),
        (("p00", "--topology", "tidy:me"), "tidy"),
        (("p00", "--compare", "beside:external"), "beside"),
        (("p00", "--model", str(model)), "ExampleForCausalLM"),
    ):
        process = h.start(*arguments, "--out", str(tmp_path / "out"))
        _, stderr = process.communicate(timeout=h.WAIT_S)
        assert process.returncode == 2, (arguments, stderr)
        assert said in stderr
        assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()
