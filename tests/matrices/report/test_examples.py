"""The campaigns kept in `examples/`: still read, still without findings, still the tables beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.matrices import harness as h
from tests.places import ROOT

RUNS = sorted((ROOT / "examples").glob("*/run"))
TABLES = ("summary.json", "summary.md", "summary.csv", "comparison.csv")


def test_there_are_examples() -> None:
    assert RUNS != []


@pytest.mark.parametrize("run", RUNS, ids=[run.parent.name for run in RUNS])
def test_an_example_is_judged_and_reported_as_it_was(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for name in TABLES:
        (copy / name).unlink()
    assert h.verb("check", copy).returncode == 0
    assert h.verb("report", copy).returncode == 0
    assert {name: (copy / name).read_bytes() for name in TABLES} == {
        name: (run / name).read_bytes() for name in TABLES
    }
