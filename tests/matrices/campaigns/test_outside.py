"""Whole campaigns over what is outside: an endpoint, an agent of one's own, and tasks that tell no calls."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matrices.checks.check import check
from matrices.evidence.campaign import load_campaign
from matrices.evidence.events import Outcome
from tests.foreign_endpoint import FINGERPRINT, MODEL
from tests.matrices import harness as h
from tests.places import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

KEY = "sk-never-to-be-seen"
TOOLS = ["notes_search", "ledger_append", "calculator", "facts_sql"]
TASKS = (
    {"id": "odd", "prompt": "Hello, is 7 even or odd?", "answer": "7 is odd."},
    {"id": "sum", "prompt": "Calculate 8 divided by 5.", "answer": "The result is 1.6.", "tools": TOOLS},
    {
        "id": "book",
        "prompt": "Record 8929 for books, please.",
        "answer": "Recorded 8929 in books.",
        "tools": TOOLS,
    },
)
PROFILE = """name = "m01"
title = "of the tests"
[policy]
retries = 2
tool_timeout = "{tool_timeout}"
{rules}"""


def _tasks(folder: Path) -> str:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS), encoding="utf-8")
    return str(path)


def _profile(folder: Path, rules: str) -> str:
    path = folder / "m01.toml"
    path.write_text(PROFILE.format(tool_timeout=h.TOOL_TIMEOUT, rules=rules), encoding="utf-8")
    return str(path)


@contextmanager
def endpoint(*arguments: str) -> Iterator[str]:
    """The URL of an endpoint that is none of ours."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.foreign_endpoint", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@pytest.mark.parametrize("baseline", ["internal", pytest.param("external", marks=pytest.mark.soak)])
def test_faults_on_the_way_to_an_endpoint_strike_the_calls_that_nobody_planned(
    baseline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_THE_TESTS", KEY)
    rules = (
        '[faults]\nby = "request"\nseed = 3\n[[faults.rules]]\nkind = "status"\nhop = "model"\nrate = 0.2\n'
        '[[faults.rules]]\nkind = "reset"\nhop = "model"\nrate = 0.2\n'
        '[[faults.rules]]\nkind = "status"\nhop = "tool"\nrate = 0.3\n'
    )
    with endpoint("--key", KEY) as url:
        result = h.matrix(
            tmp_path / "out",
            *(_profile(tmp_path, rules), "--tasks", _tasks(tmp_path), "--runs", "2"),
            *("--compare", f"{baseline}:endpoint", "--model-endpoint", url, "--model", "by-this-name"),
            *("--model-key-env", "KEY_OF_THE_TESTS"),
        )
    row = result.comparison("m01")
    assert result.status in (0, 3), result.stderr
    assert (row["findings"], row["baseline"], row["compared"]) == ("0", baseline, "endpoint")
    for arm in (baseline, "endpoint"):
        told = result.summary("m01", arm)
        assert int(told["faults_planned"]) > 0 or arm == "internal"
        assert told["faults_planned"] == told["faults_delivered"] == told["faults_observed"]
        assert int(told["tool_calls"]) > 0
        assert told["effects_lost"] == told["effects_duplicate"] == "0"
        assert float(told["ms_per_token"]) > 0
    assert int(result.summary("m01", "endpoint")["effects_recorded"]) > 0
    details = json.loads((result.folder / "manifest.json").read_text(encoding="utf-8"))["details"]
    assert (details["endpoint"]["url"], details["endpoint"]["model"]) == (url, "by-this-name")
    assert details["endpoint_told"] == {"model": MODEL, "fingerprint": FINGERPRINT}
    for path in (one for one in result.folder.rglob("*") if one.is_file()):
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in result.stdout + result.stderr
    assert "by-this-name" in (result.folder / "summary.md").read_text(encoding="utf-8")
    _tampered_history_is_found(result.folder)


def _tampered_history_is_found(folder: Path) -> None:
    """A call that the record does not have, or a fault that it hides, is found although nobody planned the calls."""
    campaign, manifest, history = load_campaign(folder)

    def kinds(change: str) -> set[str]:
        events, changed = [], 0
        for event in history.events:
            if (
                isinstance(event, Outcome)
                and event.cell == "m01"
                and event.record is not None
                and not changed
            ):
                record = json.loads(json.dumps(event.record))
                struck = [one for one in record["attempts"] if one["fault_id"]]
                if change == "hide a fault" and struck:
                    struck[0]["fault_id"], changed = "", 1
                if change == "drop a call" and record["tools"]:
                    record["tools"].pop()
                    changed = 1
                if change == "drop a retry" and any(one["attempt"] for one in record["attempts"]):
                    record["attempts"] = [one for one in record["attempts"] if not one["attempt"]]
                    changed = 1
                event = replace(event, record=record)
            events.append(event)
        assert changed
        return {
            finding.kind
            for judged in check(manifest, events, campaign.expectations)
            for finding in judged.findings
        }

    assert "attempt_wrong" in kinds("hide a fault")
    assert "calls_wrong" in kinds("drop a call")
    assert kinds("drop a retry")


@pytest.mark.soak
def test_counts_by_attempt_go_on_over_restarts_although_nobody_told_the_calls(tmp_path: Path) -> None:
    rules = '[faults]\nsite = "tool"\n[[faults.rules]]\nkind = "status"\nevery = 3\n'
    result = h.matrix(
        tmp_path / "out",
        *(_profile(tmp_path, rules), "--tasks", _tasks(tmp_path), "--runs", "3", "--restarts", "3"),
    )
    assert result.status in (0, 3), result.stderr
    row = result.comparison("m01")
    assert row["findings"] == "0"
    for arm in ("internal", "external"):
        told = result.summary("m01", arm)
        assert told["faults_planned"] == told["faults_delivered"] == told["faults_observed"] == "3"


SESSION = {
    "id": "both",
    "prompt": "Hello, is 7 even or odd?",
    "answer": "7 is odd.",
    "follow_ups": [{"prompt": "Hello, is 8 even or odd?", "expect": {"answer": "8 is even."}}],
}


def test_an_agent_of_ones_own_hears_all_that_a_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "session.jsonl"
    path.write_text(json.dumps(SESSION) + "\n", encoding="utf-8")
    with endpoint() as url:
        monkeypatch.setenv("MY_MODEL", url)
        result = h.matrix(
            tmp_path / "out",
            *("p00", "--tasks", str(path), "--runs", "3"),
            *("--agent-command", f"{sys.executable} {ROOT / 'examples' / 'my_agent.py'}"),
        )
    assert result.status in (0, 3), result.stderr
    assert result.comparison("p00")["findings"] == "0"
    for arm in ("internal", "agent"):
        told = result.summary("p00", arm)
        assert (told["requests"], told["errors"], told["wrong_answers"]) == ("3", "0", "0")
    report = (result.folder / "summary.md").read_text(encoding="utf-8")
    assert "answer 2, median ms" in report
    _tampered_sessions_are_found(result.folder)


def _tampered_sessions_are_found(folder: Path) -> None:
    """What is changed of an agent's session is found although nobody sees what it called."""
    campaign, manifest, history = load_campaign(folder)
    changes: dict[str, Callable[[dict[str, Any]], None]] = {
        "a user turn is dropped": lambda record: record["user_turns"].pop(),
        "all are dropped": lambda record: record["user_turns"].clear(),
        "a turn is answered before its attempt ended": lambda record: record["user_turns"][1].update(
            answered_s=1e-6
        ),
        "a turn was not answered": lambda record: record["user_turns"][0].update(answered_s=0.0),
        "a call of the agent is dropped": lambda record: record["attempts"].pop(),
        "calls of the agent change places": lambda record: record["attempts"].reverse(),
    }
    for name, change in changes.items():
        events = list(history.events)
        place, outcome = next(
            (place, event)
            for place, event in enumerate(events)
            if isinstance(event, Outcome) and (event.cell, event.arm) == ("p00", "agent")
        )
        record = json.loads(json.dumps(outcome.record))
        change(record)
        events[place] = replace(outcome, record=record)
        judged = check(manifest, events, campaign.expectations)
        assert any(one.findings for one in judged), name


AGENT = """import json, sys
for line in sys.stdin:
    task = json.loads(line)
    if task["task"] == "sum" and "/warmup/" not in task["id"]:
        sys.exit(7)
    print(json.dumps({"id": task["id"], "answer": "7 is odd.", "calls": [{"name": "anything", "arguments": {}}]}),
          flush=True)
"""


@pytest.mark.soak
def test_an_agent_of_ones_own_that_crashes_is_told_of_and_beside_an_endpoint_nothing_of_ours_is_needed(
    tmp_path: Path,
) -> None:
    (tmp_path / "agent.py").write_text(AGENT, encoding="utf-8")
    _tasks(tmp_path)
    with endpoint() as url:
        (tmp_path / "campaign.toml").write_text(
            f'profiles = "p00"\ntasks = "mine.jsonl"\nruns = 2\nmodel-endpoint = "{url}"\nmodel-name = "any"\n'
            f'agent-command = "{sys.executable} agent.py"\nout = "out"\n',
            encoding="utf-8",
        )
        process = h.start(str(tmp_path / "campaign.toml"))
        result = h.finish(process, tmp_path / "out")
    row = result.comparison("p00")
    assert (row["baseline"], row["compared"]) == ("endpoint", "agent")
    told = result.summary("p00", "agent")
    assert (told["requests"], told["errors"], told["wrong_answers"]) == ("6", "2", "2")
    assert told["prompt_tokens"] == told["model_attempts"] == told["effects_recorded"] == ""
    assert told["retries_mean_success"] == told["ms_per_token"] == ""
    assert result.summary("p00", "endpoint")["errors"] == "0"
    assert result.status == 1, "errors that no fault caused"
    assert row["claim_safe"] == "no"
    assert int(row["findings"]) > 0
    history = (result.folder / "history.jsonl").read_text(encoding="utf-8")
    assert "agent_died" in history
    assert "status 7" in history
