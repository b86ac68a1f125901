"""A kind of fault from an installed package, and rules on several hops: real campaigns, judged as any other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from matrices.evidence.events import Deliveries, Outcome
from matrices.evidence.history import read_history
from matrices.planning.plan import plan_cell
from matrices.spec.profiles import load_profile
from matrices.spec.suites import load_suite
from tests.matrices import harness as h
from tests.processes import wait_gone

KIND = '''
import asyncio
from typing import Annotated, ClassVar

from chaos.faults import FaultKind, Key, Lane, Toxic, answered, timed_out
from pydantic import Field


class Detour(FaultKind):
    """The attempt takes longer there and longer back."""

    name: ClassVar[str] = "detour"
    letter: ClassVar[str] = "D"
    sites: ClassVar = frozenset({"hop", "tool"})
    codes: ClassVar = frozenset({"DEADLINE_EXCEEDED"})

    each_way_ms: Annotated[int, Key(name="each_way", per_second=1000)] = Field(
        ge=1, le=10_000, description="By how much, each way."
    )

    def ending(self, struck):
        if 2 * self.each_way_ms >= struck.timeout_s * 1000:
            runs = self.each_way_ms < struck.timeout_s * 1000
            return timed_out(self.name, struck, tool_runs=runs, least_s=struck.timeout_s)
        return answered(least_s=2 * self.each_way_ms / 1000, struck=struck)

    def on_hop(self):
        late = {"latency": self.each_way_ms, "jitter": 0}
        return Lane(toxics=tuple(Toxic(type="latency", stream=s, attributes=late) for s in ("upstream", "downstream")))

    async def at_tool(self, call):
        await asyncio.sleep(self.each_way_ms / 1000)
        answer = await call.run()
        await asyncio.sleep(self.each_way_ms / 1000)
        return answer
'''

PROFILE = """
name = "detour"
title = "A kind of another package at the tool, and a late model"
twin = "t"

[policy]
tool_timeout = "10s"
model_timeout = "60s"
run_timeout = "300s"
retries = 1

[faults]
by = "request"
seed = 2

[[faults.rules]]
kind = "detour"
each_way = "40ms"
rate = 0.5

[[faults.rules]]
kind = "status"
code = "ABORTED"
rate = 0.5

[[faults.rules]]
hop = "model"
kind = "latency"
delay = "30ms"
rate = 0.4

[[faults.rules]]
hop = "model"
kind = "status"
rate = 0.3
"""


def install(folder: Path, module: str, source: str, entry_points: str) -> Path:
    """A package as pip would have left it in `folder`: a module, and its name and entry points beside it."""
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package with the kind, where every process that is started from here finds it."""
    folder = install(tmp_path / "site", "detours", KIND, "[treni_route.faults]\ndetour = detours:Detour\n")
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{path}" if path else str(folder))
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "matrices", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=h.WAIT_S, check=False)


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.slow
def test_a_campaign_delivers_observes_and_judges_it_beside_faults_on_the_other_hop(
    tmp_path: Path, package: Path
) -> None:
    profile = tmp_path / "detour.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    result = h.matrix(
        tmp_path / "out",
        f"{profile},{profile}:t",
        "--suite",
        "tool_only",
        "--runs",
        "2",
        "--concurrency",
        "2",
    )
    assert result.status in (0, 3), result.stdout + result.stderr
    assert h.verb("check", result.folder).returncode == 0
    events = read_history(result.folder / "history.jsonl").events
    delivered = {
        (event.cell, event.arm, row.hop, row.kind, row.how)
        for event in events
        if isinstance(event, Deliveries)
        for row in event.faults
    }
    at_model = {
        (cell, "external", "model", *way)
        for cell in ("detour", "detourt")
        for way in (("latency", "lane"), ("status", "injector"))
    }
    assert delivered == at_model | {
        ("detour", "external", "tool", "detour", "lane"),
        ("detour", "external", "tool", "status", "injector"),
        *(
            ("detourt", arm, "tool", kind, how)
            for arm, how in (("internal", "in-process"), ("external", "injector"))
            for kind in ("detour", "status")
        ),
    }
    failed = [event.error.hop for event in events if isinstance(event, Outcome) and event.error is not None]
    assert failed != []
    for row in (result.comparison("detour"), result.comparison("detourt")):
        assert row["faults_planned"] == row["faults_delivered"] == row["faults_observed"] != "0"
        assert row["findings"] == "0"


BY_ATTEMPT = """
name = "both"
title = "Rules by attempt on both hops"

[policy]
tool_timeout = "5s"
model_timeout = "60s"
run_timeout = "300s"
retries = 0
backoff_initial = "1ms"

[faults]
by = "attempt"

[[faults.rules]]
kind = "status"
every = 3

[[faults.rules]]
hop = "model"
kind = "reset"
every = 5
"""


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_the_counts_of_two_hops_go_on_where_a_killed_harness_left_them(tmp_path: Path) -> None:
    """What fails on one hop keeps the other from being reached: each count lags by what the other cut off."""
    profile = tmp_path / "both.toml"
    profile.write_text(BY_ATTEMPT, encoding="utf-8")
    out = tmp_path / "out"
    process = h.start(str(profile), "--suite", "tool_only", "--runs", "3", "--out", str(out))
    h.wait_for(lambda: _completed(out) >= 5, process)
    process.kill()
    process.communicate()
    wait_gone(h.pids_of(out, "both").values())
    result = h.resume(h.folder_in(out))
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    first, second = (event for event in h.events(out) if event["type"] == "cell" and event["cell"] == "both")
    assert first["start_counter"] == {"external/tool": 2, "external/model": 2}
    assert second["start_counter"]["external/tool"] > 2
    assert second["start_counter"]["external/model"] > second["start_counter"]["external/tool"]
    prediction = plan_cell(load_profile(profile), load_suite("tool_only"), runs=3).prediction("external")
    assert prediction is not None
    assert int(result.summary("both", "external")["errors"]) == prediction.errors > 2
    assert {fault.hop for request in prediction.requests for fault in request.faults} == {"tool", "model"}


def _completed(out: Path) -> int:
    return sum(event["type"] == "pair_complete" and event["cell"] == "both" for event in h.events(out))


def test_its_keys_are_checked_like_those_of_ours(tmp_path: Path, package: Path) -> None:
    profile = tmp_path / "detour.toml"
    for wrong, says in (
        ('each_way = "11s"', "rules.0.detour.each_way: Input should be less than or equal to 10"),
        ("each_way = 40", "rules.0.detour.each_way: expected a duration with a unit"),
        ('every_way = "40ms"', "rules.0.detour.every_way: unknown key; allowed here:"),
    ):
        profile.write_text(PROFILE.replace('each_way = "40ms"', wrong), encoding="utf-8")
        done = run("matrix", str(profile), "--dry-run")
        assert done.returncode == 2
        assert says in done.stderr


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise RuntimeError('not on a Monday')", "RuntimeError: not on a Monday"),
        ("Detour = 3", "got a int"),
        (
            KIND.replace('letter: ClassVar[str] = "D"', 'letter: ClassVar[str] = "F"'),
            "the letter F, which another has",
        ),
        (
            KIND.replace("each_way_ms", "rate_ms").replace('"each_way"', '"rate"'),
            "the keys rate, which are every rule's",
        ),
        (KIND.replace("    def ending", "    def beginning"), "does not say ending"),
        (
            KIND.replace("        ge=1, le=10_000,", '        default="soon",'),
            "TypeError: unsupported operand",
        ),
    ],
    ids=[
        "breaks",
        "is nothing",
        "another's letter",
        "a rule's key",
        "says no ending",
        "a key that cannot be",
    ],
)
def test_a_package_that_is_broken_is_told_where_its_kind_is_asked_for_and_costs_nobody_else(
    tmp_path: Path, package: Path, source: str, says: str
) -> None:
    (package / "detours.py").write_text(source, encoding="utf-8")
    profile = tmp_path / "detour.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    done = run("matrix", str(profile), "--dry-run")
    assert done.returncode == 2, done.stderr
    assert "detour" in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert run("matrix", "p04", "--dry-run").returncode == 0


def test_a_name_of_ours_is_not_taken_unseen(tmp_path: Path, package: Path) -> None:
    (package / "detours-1.0.dist-info" / "entry_points.txt").write_text(
        "[treni_route.faults]\nstall = detours:Detour\n", encoding="utf-8"
    )
    done = run("matrix", "p02", "--dry-run")
    assert done.returncode == 2
    assert "detours" in done.stderr
    assert "the name 'stall', which the project itself has" in done.stderr
