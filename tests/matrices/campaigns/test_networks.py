"""Campaigns over an emulated network: what is counted is as without it, and everything says that it was emulated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from matrices.evidence.campaign import load_campaign
from matrices.evidence.history import state_of
from matrices.evidence.runs import pair_runs
from tests.matrices import harness as h

FAR = "model=eu-us,tool=eu-eu"


@pytest.mark.chaos
@pytest.mark.soak
def test_the_counts_are_those_of_one_machine_and_no_trip_is_shorter_than_declared(tmp_path: Path) -> None:
    arguments = (h.patient(tmp_path, "p03"), "--runs", "3")
    near = h.matrix(tmp_path / "near", *arguments)
    far = h.matrix(tmp_path / "far", *arguments, "--network", FAR)
    for result in (near, far):
        assert result.status in (0, 3), result.stderr
        assert h.verb("check", result.folder).returncode == 0
    compare = [sys.executable, "-m", "matrices", "compare", str(near.folder), str(far.folder)]
    done = subprocess.run(compare, capture_output=True, text=True, timeout=h.WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for arm in ("internal", "external"):
        mine, theirs = near.summary("p03", arm), far.summary("p03", arm)
        for name in ("requests", "errors", "retries_mean_success", "faults_observed", "effects_recorded"):
            assert mine[name] == theirs[name]
        assert (mine["network"], theirs["network"]) == ("", "emulated model=eu-us tool=eu-eu")
    assert far.comparison("p03")["network"] == "emulated model=eu-us tool=eu-eu"
    _, manifest, history = load_campaign(far.folder)
    assert manifest.details["network"]["emulated"] is True
    assert manifest.details["network"]["hops"]["model"]["rtt"] == 0.067
    least_s = {"model": 0.065, "tool": 0.014}
    trips = 0
    for state in state_of(history.events).values():
        for runs in pair_runs(state).values():
            for arm, run in runs.items():
                for attempt in run.attempts if arm == "external" else ():
                    if attempt.outcome == "ok":
                        assert attempt.duration_s >= least_s[attempt.hop]
                        trips += 1
    assert trips >= 16, "as many as the schedule lets through"
    assert "**Emulated network: **the model hop eu-us, 67 ms ± 2 ms; the tool hop eu-eu, 15 ms ± 1 ms." in (
        far.folder / "summary.md"
    ).read_text(encoding="utf-8")
    assert "emulated model=eu-us tool=eu-eu" in " ".join(far.stdout.split())
    assert "emulated" not in near.stdout + (near.folder / "summary.md").read_text(encoding="utf-8")
    summary = json.loads((far.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["network"]["emulated"] is True


BY_REQUEST = """
name = "far"
title = "Late answers, refusals, lost answers and slow lines on both hops"
[policy]
tool_timeout = "10s"
model_timeout = "25s"
run_timeout = "25s"
retries = 2
backoff_initial = "1ms"
[faults]
by = "request"
seed = 3
[[faults.rules]]
kind = "latency"
delay = "30ms"
rate = 0.2
[[faults.rules]]
kind = "status"
rate = 0.2
[[faults.rules]]
kind = "reset"
rate = 0.1
[[faults.rules]]
kind = "bandwidth"
rate_kb_s = 20
rate = 0.1
[[faults.rules]]
kind = "status"
hop = "model"
rate = 0.2
"""


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.slow
def test_faults_of_both_hops_with_several_requests_at_once_over_a_network_and_resumed(tmp_path: Path) -> None:
    profile = tmp_path / "far.toml"
    profile.write_text(BY_REQUEST, encoding="utf-8")
    out = tmp_path / "out"
    process = h.start(
        *(str(profile), "--suite", "tool_only", "--runs", "6", "--concurrency", "4", "--network", "us-us"),
        *("--out", str(out)),
    )
    h.wait_for(
        lambda: sum(e["type"] == "pair_complete" and e["cell"] == "far" for e in h.events(out)) >= 4, process
    )
    process.kill()
    process.communicate()
    result = h.resume(h.folder_in(out))
    assert result.status in (0, 3), result.stderr
    found = h.verb("check", result.folder)
    assert found.returncode == 0, found.stdout
    assert int(result.summary("far", "external")["faults_observed"]) > 5
    assert result.summary("far", "external")["network"] == "emulated us-us"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("p00", "--network", "moon"), "treni-route networks"),
        (("p00", "--network", "eu-us-lossy"), "hosts.toml"),
        (("p00", "--network", "eu-us", "--set", "policy.tool_timeout=100ms"), "tool_timeout"),
    ],
)
def test_a_network_that_cannot_be_is_told_by_a_dry_run(
    tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    process = h.start(*arguments, "--dry-run", "--out", str(tmp_path / "out"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 2
    assert word in stderr
    assert "Traceback" not in stderr
