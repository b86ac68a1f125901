"""Whole campaigns through the command line: real model, real tools, real faults."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from matrices.planning.plan import plan_cell
from matrices.spec.profiles import load_profile
from matrices.spec.suites import load_suite
from tests.matrices import harness as h
from tests.places import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

PUBLISHED = {
    "p00": ("0.0000", 0.0),
    "p01": ("0.0000", 1 / 48),
    "p02": ("0.0000", 1 / 48),
    "p03": ("0.0417", 3 / 46),
    "p04": ("0.0833", 8 / 44),
    "p05": ("0.0833", 4 / 44),
}


def _profile(
    path: Path, rules: str, *, retries: int = 1, site: str = "hop", by: str = "attempt", warmup: int = 1
) -> Path:
    path.write_text(
        f'name = "{path.stem}"\ntitle = "a schedule of the tests"\n[policy]\nretries = {retries}\n'
        f'tool_timeout = "{h.TOOL_TIMEOUT}"\nbackoff_initial = "20ms"\n'
        f'[faults]\nsite = "{site}"\nby = "{by}"\nwarmup = {warmup}\n{rules}',
        encoding="utf-8",
    )
    return path


def _rule(kind: str, every: int, more: str = "") -> str:
    return f'[[faults.rules]]\nkind = "{kind}"\nevery = {every}\n{more}'


def test_the_published_matrix(tmp_path: Path) -> None:
    """The main job, whole: every count as published, every fault planned, delivered and observed."""
    result = h.matrix(tmp_path / "out", h.patient(tmp_path, "p00..p05"))
    assert result.status in (0, 3), result.stderr
    for profile, (error_rate, retries) in PUBLISHED.items():
        external, internal = result.summary(profile, "external"), result.summary(profile, "internal")
        assert f"{float(external['error_rate']):.4f}" == error_rate
        assert float(external["retries_mean_success"]) == pytest.approx(retries, abs=5e-4)
        assert (external["requests"], internal["requests"], internal["errors"]) == ("48", "48", "0")
        row = result.comparison(profile)
        assert row["faults_planned"] == row["faults_delivered"] == row["faults_observed"]
        assert row["pairs_void"] == "0"
        assert (row["effects_lost"], row["effects_duplicate"], row["effects_phantom"]) == ("0", "0", "0")
    assert "aa" in result.stdout
    _report_is_reproducible(result)
    _tells_nothing_of_where_it_lay(result.folder)


def _tells_nothing_of_where_it_lay(folder: Path) -> None:
    """A campaign's folder can be published, and moved."""
    paths = [str(folder.parent).encode(), str(ROOT).encode()]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 6 * len(PUBLISHED)
    assert [path.name for path in files if any(told in path.read_bytes() for told in paths)] == []


def _report_is_reproducible(result: h.Result) -> None:
    names = ("summary.json", "summary.md", "summary.csv", "comparison.csv")
    before = {name: (result.folder / name).read_bytes() for name in names}
    copy = result.folder.parent / "copy"
    shutil.copytree(result.folder, copy)
    for name in names:
        (copy / name).unlink()
    assert h.verb("report", copy).returncode == result.status
    assert {name: (copy / name).read_bytes() for name in names} == before
    assert h.verb("check", copy).returncode == 0


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "rules", "retries", "warmup", "runs"),
    [
        ("s1", _rule("status", 3), 0, 0, 2),
        ("s2", _rule("stall", 3, 'direction = "request"\n') + _rule("status", 4), 2, 2, 3),
        ("s3", _rule("reset", 2) + _rule("stall", 5, 'direction = "response"\n'), 1, 3, 3),
    ],
)
def test_other_schedules_give_the_counts_they_predict(
    tmp_path: Path, name: str, rules: str, retries: int, warmup: int, runs: int
) -> None:
    path = _profile(tmp_path / f"{name}.toml", rules, retries=retries, warmup=warmup)
    result = h.matrix(tmp_path / "out", str(path), "--suite", "tool_only", "--runs", str(runs))
    assert result.status in (0, 3), result.stderr
    prediction = plan_cell(load_profile(path), load_suite("tool_only"), runs=runs).prediction("external")
    assert prediction is not None
    assert len(prediction.fault_ids) >= 2
    row = result.summary(name, "external")
    assert int(row["errors"]) == prediction.errors
    assert float(row["retries_mean_success"]) == pytest.approx(prediction.retries_mean_success, abs=5e-4)
    assert int(result.comparison(name)["faults_observed"]) == len(prediction.fault_ids)


@pytest.mark.soak
def test_a_schedule_by_request_is_the_same_at_concurrency(tmp_path: Path) -> None:
    path = _profile(tmp_path / "conc.toml", _rule("status", 3), by="request")
    prediction = plan_cell(load_profile(path), load_suite("tool_only"), runs=3).prediction("external")
    assert prediction is not None
    assert len(prediction.fault_ids) > 0
    for concurrency in (1, 6):
        out = tmp_path / f"out{concurrency}"
        result = h.matrix(
            out, str(path), "--suite", "tool_only", "--runs", "3", "--concurrency", str(concurrency)
        )
        assert result.status in (0, 3), result.stderr
        assert int(result.summary("conc", "external")["errors"]) == prediction.errors


@pytest.mark.soak
def test_faults_at_the_tool_strike_both_arms_alike(tmp_path: Path) -> None:
    profile = h.patient(tmp_path, "p04t")
    result = h.matrix(tmp_path / "out", profile, "--suite", "tool_only", "--runs", "3")
    assert result.status in (0, 3), result.stderr
    internal, external = result.summary("p04t", "internal"), result.summary("p04t", "external")
    assert int(internal["errors"]) == int(external["errors"]) > 0
    assert internal["retries_mean_success"] == external["retries_mean_success"]


@pytest.mark.parametrize("idempotency", [True, False], ids=["keys", "no-keys"])
def test_a_lost_answer_duplicates_an_effect_only_without_keys(tmp_path: Path, idempotency: bool) -> None:
    path = _profile(tmp_path / "lost.toml", _rule("stall", 3, 'direction = "response"\n'))
    suite = h.write_suite(tmp_path / "ledger.jsonl", h.tool_tasks("ledger_append")[:9], per_run=3)
    result = h.matrix(
        tmp_path / "out",
        str(path),
        "--suite",
        str(suite),
        "--runs",
        "3",
        *([] if idempotency else ["--no-idempotency"]),
    )
    plan = plan_cell(load_profile(path), load_suite(str(suite)), runs=3, idempotency=idempotency)
    prediction = plan.prediction("external")
    assert prediction is not None
    assert (prediction.duplicates == 0) == idempotency
    row = result.comparison("lost")
    assert int(row["effects_duplicate"]) == prediction.duplicates
    assert (row["effects_lost"], row["effects_phantom"]) == ("0", "0")


@pytest.mark.soak
def test_chains_of_calls_are_answered(tmp_path: Path) -> None:
    profile = h.patient(tmp_path, "p00")
    result = h.matrix(tmp_path / "out", profile, "--suite", "chains", "--runs", "3")
    assert result.status in (0, 3), result.stderr
    assert result.summary("p00", "external")["errors"] == "0"


def test_dry_run_prints_the_prediction_and_makes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = h.start("p00..p05", "--dry-run", "--out", str(out))
    stdout, _ = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 0
    assert not out.exists()
    rows = {tuple(line.split()[:2]): line.split() for line in stdout.splitlines()[1:]}
    for profile, (error_rate, retries) in PUBLISHED.items():
        *_, rate, mean, _digest = rows[profile, "external"]
        assert rate == error_rate
        assert float(mean) == pytest.approx(retries, abs=5e-4)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["p9"], "p00"),
        (["p04", "--concurrency", "2"], "by request"),
        (["p04", "--fault-seeds", "2"], "by request"),
        (["r01", "--set", "policy.retriez=1"], "policy.retries"),
        (["r01", "--set", "policy.retries=11"], "policy.retries"),
        (["p00", "--suite", "nosuch"], "core"),
        (["p00", "--model", "/nonexistent"], "/nonexistent"),
        ([], "p00..p05"),
    ],
)
def test_wrong_use_is_told_in_one_line(tmp_path: Path, arguments: list[str], word: str) -> None:
    process = h.start(*arguments, "--out", str(tmp_path / "out"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode in (1, 2)
    assert word in stderr
    assert "Traceback" not in stderr
