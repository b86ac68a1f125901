"""A campaign whose tasks are gone about in more than one way, under faults: each run does what its scenario says."""

from __future__ import annotations

from pathlib import Path

from matrices.planning.plan import plan_cell
from matrices.spec.profiles import load_profile
from matrices.spec.suites import Task, load_suite
from tests.matrices import harness as h
from tests.matrices.checks.tampering.folder import findings

PROFILE = """
name = "drawn"
title = "The model answers 503 on 30 % of attempts, drawn independently; one retry"

[policy]
retries = 1
backoff_initial = "10ms"

[faults]
site = "hop"
hop = "model"
by = "request"
seed = 3

[[faults.rules]]
kind = "status"
code = "UNAVAILABLE"
rate = 0.3
"""


def _single(task: Task) -> Task:
    return Task.model_validate({**task.model_dump(mode="json"), "scenario": "single_turn", "tools": []})


def test_each_task_is_gone_about_in_its_own_way(tmp_path: Path) -> None:
    core = load_suite("core").tasks
    tasks = [task if task.calls else _single(task) for task in core[:12]]
    assert {task.scenario for task in tasks} == {"tool_loop", "single_turn"}
    suite = h.write_suite(tmp_path / "both.jsonl", tasks, per_run=4)
    profile = tmp_path / "drawn.toml"
    profile.write_text(PROFILE, encoding="utf-8")

    result = h.matrix(tmp_path / "out", str(profile), "--suite", str(suite), "--runs", "3")

    assert result.status in (0, 3), result.stderr
    assert findings(result.folder) == set()
    prediction = plan_cell(load_profile(profile), load_suite(str(suite)), runs=3).prediction("external")
    assert prediction is not None
    row = result.summary("drawn", "external")
    assert int(row["errors"]) == prediction.errors
    assert int(row["faults_observed"]) == len(prediction.fault_ids) > 0
    assert row["accuracy"] == "1.000000"
