"""Campaigns whose tools are an MCP server's: the real model decides, both arms call, and an effect happens once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from matrices.spec.tooling import digest_of, tooling_of
from matrices.topologies.roles_asked import refuse_other_tools
from tests.matrices import harness as h
from tests.processes import is_running, wait_gone
from tools_svc.protocol import make_spec
from treni.errors import Code, TreniError

SERVER = Path(__file__).with_name("mcp_tools.py")
REGIONS = {"Conest": "hotprism", "Taorest": "coldlake", "Thcopy": "farfield", "Crevaith": "highmoor"}

PROFILE = """
name = "m01_mcp"
title = "Calls of tools are refused, and their answers lost"
twin = "t"
[policy]
tool_timeout = "2s"
retries = 2
backoff_initial = "10ms"
[faults]
site = "hop"
hop = "tool"
by = "attempt"
warmup = 1
[[faults.rules]]
kind = "status"
code = "UNAVAILABLE"
every = 4
[[faults.rules]]
kind = "stall"
direction = "response"
every = 5
"""


def _source(folder: Path) -> str:
    return f"mcp:{shlex.join([sys.executable, '-S', str(SERVER), str(folder)])}"


def _suite(path: Path) -> Path:
    """Look-ups, and files that are written, with the server's tools."""
    tasks = []
    for number, (name, region) in enumerate(REGIONS.items()):
        look = {
            "id": f"look-{number}",
            "family": "look_up",
            "run": number // 2,
            "prompt": f"Please answer: what is the old region of sensor {name}?",
            "tools": ["get_old_region", "calculator"],
            "expect": {
                "answer": f"The old region is {region}.",
                "calls": [{"name": "get_old_region", "arguments": {"name": name}}],
            },
            "side_effects": 0,
        }
        write = {
            "id": f"write-{number}",
            "family": "write",
            "run": number // 2,
            "prompt": f"Write a file with path {name} and content hello.",
            "tools": ["write_file"],
            "expect": {
                "answer": f"The path is {name}.",
                "calls": [{"name": "write_file", "arguments": {"path": name, "content": "hello"}}],
            },
            "side_effects": 1,
        }
        tasks += [look, write]
    path.write_text("\n".join(map(json.dumps, tasks)) + "\n", encoding="utf-8")
    return path


def _profile(folder: Path) -> Path:
    path = folder / "m01_mcp.toml"
    path.write_text(PROFILE, encoding="utf-8")
    return path


def _pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text(encoding="utf-8").split()]


def _effects(folder: Path) -> Counter[str]:
    """How often each host of tools, by its process, wrote each file."""
    return Counter((folder / "effects").read_text(encoding="utf-8").splitlines())


def _campaign(folder: Path, profiles: str, *arguments: str) -> h.Result:
    suite = _suite(folder / "mine.jsonl")
    result = h.matrix(
        folder / "out",
        profiles,
        *("--suite", str(suite), "--runs", "2", "--tools", "builtin", "--tools", _source(folder)),
        *arguments,
    )
    assert result.status in (0, 3), result.stderr
    return result


def test_a_campaign_under_faults_repeats_no_effect(tmp_path: Path) -> None:
    result = _campaign(tmp_path, str(_profile(tmp_path)))
    row = result.comparison("m01")
    assert row["findings"] == "0"
    assert int(row["faults_planned"]) > 3
    assert row["faults_planned"] == row["faults_delivered"] == row["faults_observed"]
    assert float(result.summary("m01", "external")["retries_mean_success"]) > 0
    for arm in ("internal", "external"):
        of_arm = result.summary("m01", arm)
        assert (of_arm["errors"], of_arm["accuracy"], of_arm["tool_calls"]) == ("0", "1.000000", "8")
        assert [of_arm[name] for name in of_arm if name.startswith("effects_")] == [""] * 5
    assert "not counted" in (result.folder / "summary.md").read_text(encoding="utf-8")
    checked = h.verb("check", result.folder)
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "effects not counted: write_file" in checked.stderr

    assert set(_effects(tmp_path).values()) == {1}
    assert len(_effects(tmp_path)) == 2 * 2 * len(REGIONS)  # two arms of two cells
    assert not any(map(is_running, _pids(tmp_path)))

    manifest = json.loads((result.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["details"]["tools"]["sources"] == ["builtin", _source(tmp_path)]


@pytest.mark.soak
def test_faults_at_the_tool_strike_both_arms(tmp_path: Path) -> None:
    result = _campaign(tmp_path, f"{_profile(tmp_path)}:t")
    row = result.comparison("m01t")
    assert row["findings"] == "0"
    assert row["faults_planned"] == row["faults_delivered"] == row["faults_observed"]
    for arm in ("internal", "external"):
        of_arm = result.summary("m01t", arm)
        assert (of_arm["errors"], of_arm["accuracy"]) == ("0", "1.000000")
        assert float(of_arm["retries_mean_success"]) > 0
    assert set(_effects(tmp_path).values()) == {1}


@pytest.mark.soak
def test_a_host_that_crashes_with_its_server_comes_back_with_another(tmp_path: Path) -> None:
    result = _campaign(tmp_path, h.patient(tmp_path, "b01"))
    row = result.comparison("b01")
    assert row["findings"] == "0"
    assert not any(map(is_running, _pids(tmp_path)))


@pytest.mark.soak
def test_after_a_kill_of_the_harness_no_server_is_left_and_the_campaign_goes_on(tmp_path: Path) -> None:
    suite = _suite(tmp_path / "mine.jsonl")
    out = tmp_path / "out"
    process = h.start(
        str(_profile(tmp_path)),
        *("--suite", str(suite), "--runs", "2", "--tools", "builtin", "--tools", _source(tmp_path)),
        *("--out", str(out)),
    )
    h.wait_for(lambda: any(one["type"] == "pair" for one in h.events(out)), process)
    before = _pids(tmp_path)
    assert any(map(is_running, before))
    h.kill(process.pid)
    process.communicate()
    wait_gone(before)
    result = h.resume(h.folder_in(out))
    assert result.status in (0, 3), result.stderr
    assert result.comparison("m01")["findings"] == "0"
    assert set(_effects(tmp_path).values()) == {1}


@pytest.mark.soak
def test_what_cannot_run_is_told_before_anything_does(tmp_path: Path) -> None:
    suite = _suite(tmp_path / "mine.jsonl")

    def dry(*sources: str) -> subprocess.CompletedProcess[str]:
        options = [word for source in sources for word in ("--tools", source)]
        return subprocess.run(
            [sys.executable, "-m", "matrices", "matrix", "p00", "--dry-run", "--suite", str(suite), *options],
            capture_output=True,
            text=True,
            timeout=h.WAIT_S,
            check=False,
        )

    for sources, said in (
        ((_source(tmp_path),), "'calculator'"),  # ours are not there unless they are asked for
        (("builtin", f"mcp:{sys.executable} -c pass"), "to speak MCP"),
    ):
        done = dry(*sources)
        assert done.returncode in (1, 2)  # an error, or one of how it was asked for
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_role_with_other_tools_than_were_planned_with_is_refused(tmp_path: Path) -> None:
    tooling = tooling_of(["builtin", _source(tmp_path)])
    assert tooling.foreign == {"get_old_region", "write_file"}
    assert [tooling.changes(name) for name in ("get_old_region", "write_file", "ledger_append")] == [
        False,
        True,
        True,
    ]
    spec = make_spec(name="get_old_region", description="Another.", properties={}, required=())
    for specs, said in (([spec], "another description or schema"), ([], "only")):
        with pytest.raises(TreniError, match=said) as caught:
            refuse_other_tools(specs, {"get_old_region": tooling.digests["get_old_region"]})
        assert (caught.value.code, caught.value.kind) == (Code.FAILED_PRECONDITION, "tools_differ")
    refuse_other_tools([spec], {"get_old_region": digest_of(spec)})


@pytest.mark.parametrize("role", ["tools", pytest.param("agent", marks=pytest.mark.soak)])
def test_a_role_that_is_killed_takes_its_server_along(tmp_path: Path, role: str) -> None:
    command = [
        *(sys.executable, "-m", "matrices", "serve", role, "--ledger", str(tmp_path / "ledger")),
        *("--tools", _source(tmp_path)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["service"] == role
    (pid,) = _pids(tmp_path)
    assert is_running(pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_gone([pid])
