"""Campaigns with several controllers and tool services: the same runs, no effect twice, and every process at work."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import psutil
import pytest

from matrices.arms.parts import Replicas
from matrices.evidence.campaign import load_campaign
from matrices.evidence.events import CellStarted, Outcome
from tests.matrices import harness as h
from tests.matrices.topologies.test_hosts import by_hand
from tests.processes import wait_gone
from tools_svc.ledger_append import read_effects

PROFILE = """
name = "spread"
title = "Answers that are lost and calls that are refused, at a tool hop of several services"

[policy]
tool_timeout = "2s"
model_timeout = "60s"
run_timeout = "120s"
retries = 2
backoff_initial = "1ms"

[faults]
hop = "tool"
by = "request"
seed = 3

[[faults.rules]]
kind = "reset"
rate = 0.1

[[faults.rules]]
kind = "stall"
direction = "response"
rate = 0.25

[[faults.rules]]
kind = "status"
rate = 0.2

[[faults.rules]]
hop = "agent"
kind = "status"
code = "ABORTED"
rate = 0.1
"""

SEVERAL = ("--controllers", "3", "--tool-services", "2")


def asked(folder: Path, profile: str = PROFILE) -> tuple[str, ...]:
    """A suite of ledger entries under the profile, eight pairs at once."""
    (folder / "spread.toml").write_text(profile, encoding="utf-8")
    suite = h.write_suite(folder / "suite.jsonl", h.tool_tasks("ledger_append")[:8] * 3, per_run=8)
    return (str(folder / "spread.toml"), "--suite", str(suite), "--runs", "3", "--concurrency", "8")


def answering(result: h.Result, cell: str) -> Counter[str]:
    """How many runs of the external arm each role answered, by the process that their records name."""
    events = load_campaign(result.folder)[2].events
    (start,) = (one for one in events if isinstance(one, CellStarted) and one.cell == cell)
    roles = {pid: role for role, pid in start.pids.items()}
    ended = [one for one in events if isinstance(one, Outcome) and (one.cell, one.arm) == (cell, "external")]
    return Counter(roles[one.record["pid"]] for one in ended if one.record is not None)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("keys", [True, False])
def test_several_do_what_one_of_each_does_and_no_effect_is_there_twice(tmp_path: Path, keys: bool) -> None:
    arguments = (*asked(tmp_path), *(() if keys else ("--no-idempotency",)))
    one = h.matrix(tmp_path / "one", *arguments)
    several = h.matrix(tmp_path / "several", *arguments, *SEVERAL)
    for result in (one, several):
        assert result.status in (0, 3), result.stderr
        checked = h.verb("check", result.folder)
        assert checked.returncode == 0, checked.stdout
    row = several.comparison("spread")
    assert int(row["faults_observed"]) > 10
    assert (row["effects_duplicate"] == "0") is keys
    assert row["effects_lost"] == "0"
    assert h.compared(one.folder, several.folder).returncode == 0
    assert set(answering(several, "spread")) == {"controller", "controller_2", "controller_3"}
    assert set(answering(one, "spread")) == {"controller"}
    ledgers = [
        read_effects(several.folder / "cells" / "spread" / f"ledger-{role}.sqlite")
        for role in ("tools", "tools_2")
    ]
    assert all(ledgers)
    # A run is at one tool service alone, also with the calls that it made again.
    assert not {row.run_id for row in ledgers[0]} & {row.run_id for row in ledgers[1]}
    assert load_campaign(several.folder)[1].replicas == Replicas(controllers=3, tool_services=2)
    summary = (several.folder / "summary.md").read_text(encoding="utf-8")
    assert "3 controllers and 2 tool services" in summary


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_a_harness_that_is_killed_goes_on_with_as_many(tmp_path: Path) -> None:
    process = h.start(*asked(tmp_path), *SEVERAL, "--out", str(tmp_path / "out"))
    h.wait_for(lambda: completed(tmp_path / "out") >= 10, process)
    process.kill()
    process.communicate()
    result = h.resume(h.folder_in(tmp_path / "out"))
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    assert result.comparison("spread")["effects_duplicate"] == "0"


WITHOUT_CLIENTS = PROFILE[: PROFILE.index('[[faults.rules]]\nhop = "agent"')]


def connections(process: psutil.Process) -> int:
    """To how many addresses it is connected; the kernel's list may miss one while it changes."""
    found = process.net_connections("tcp")
    return len({one.raddr for one in found if one.status == psutil.CONN_ESTABLISHED})


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The client processes that it has by now."""
    below = psutil.Process(process.pid).children()
    return [child for child in below if "matrices.running.worker" in child.cmdline()]


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_workers_share_the_requests_and_do_what_one_does(tmp_path: Path) -> None:
    arguments = (*asked(tmp_path, WITHOUT_CLIENTS), *SEVERAL)
    one = h.matrix(tmp_path / "one", *arguments)
    process = h.start(*arguments, "--workers", "3", "--out", str(tmp_path / "workers"))
    h.wait_for(lambda: completed(tmp_path / "workers") >= 1, process)
    seen = workers_of(process)
    assert len(seen) == 3
    # Each comes to have a connection to each of the three controllers, and to the internal arm's agent.
    h.wait_for(lambda: [connections(worker) for worker in seen] == [4, 4, 4], process)
    result = h.finish(process, tmp_path / "workers")
    wait_gone(worker.pid for worker in seen)
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    assert h.compared(one.folder, result.folder).returncode == 0
    assert load_campaign(result.folder)[1].workers == 3


@pytest.mark.chaos
@pytest.mark.soak
def test_a_campaign_that_loses_a_worker_says_so_and_goes_on_with_each_pair_once(tmp_path: Path) -> None:
    process = h.start(*asked(tmp_path, WITHOUT_CLIENTS), "--workers", "2", "--out", str(tmp_path / "out"))
    h.wait_for(lambda: completed(tmp_path / "out") >= 3, process)
    workers_of(process)[1].kill()
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 1
    assert "client process" in stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    result = h.resume(h.folder_in(tmp_path / "out"))
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    assert completed(tmp_path / "out") == 24
    assert result.comparison("spread")["effects_duplicate"] == "0"


def completed(out: Path) -> int:
    return sum(event["type"] == "pair_complete" and event["cell"] == "spread" for event in h.events(out))


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_a_file_of_hosts_lists_as_many_as_there_are(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    hosts = {"agent": "127.0.0.2", "controller": "127.0.0.3", "tools": "127.0.0.4"}
    more = {"controller": "127.0.0.5", "tools": "127.0.0.6"}
    (tmp_path / "more").mkdir()
    with by_hand(tmp_path / "state", hosts) as first, by_hand(tmp_path / "more", more) as second:
        text = first.file().read_text() + second.file().read_text()
        file = tmp_path / "hosts.toml"
        file.write_text(text, encoding="utf-8")
        result = h.matrix(tmp_path / "hosts", *asked(tmp_path), "--topology", str(file))
        refused = h.start("p00", "--topology", str(file), "--controllers", "3", "--dry-run")
        _, stderr = refused.communicate(timeout=h.WAIT_S)
        assert (refused.returncode, "2 controllers" in stderr) == (2, True)
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    assert set(answering(result, "spread")) == {"controller", "controller_2"}
    local = h.matrix(tmp_path / "local", *asked(tmp_path))
    assert h.compared(local.folder, result.folder).returncode == 0


@pytest.mark.parametrize(
    ("profile", "arguments", "word"),
    [
        ("p01", ("--controllers", "2"), 'by = "attempt"'),
        ("b01", ("--tool-services", "2"), "harm hosts"),
        ("n04", ("--tool-services", "2"), "harm hosts"),
        ("p00", ("--controllers", "0"), "--controllers"),
        ("p00", ("--controllers", "65"), "--controllers"),
        ("p00", ("--workers", "2"), "at most as many workers"),
        ("p01", ("--tool-services", "2"), ""),
        ("r02", SEVERAL, ""),
    ],
)
def test_what_could_not_be_exact_is_refused_before_anything_runs(
    tmp_path: Path, profile: str, arguments: tuple[str, ...], word: str
) -> None:
    process = h.start(profile, *arguments, "--dry-run", "--out", str(tmp_path / "out"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == (2 if word else 0), stderr
    assert word in stderr
    assert not (tmp_path / "out").exists()
