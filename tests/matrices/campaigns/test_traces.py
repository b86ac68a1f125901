"""Campaigns that keep traces: each request is whole in one, its parts sum, and the evidence is as without."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from matrices.evidence.traces import Trace, read_traces
from tests.matrices import harness as h

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

PROFILE = f"""
name = "traced"
title = "every second call of a tool is refused once"
[policy]
retries = 1
tool_timeout = "{h.TOOL_TIMEOUT}"
backoff_initial = "5ms"
[faults]
site = "hop"
by = "attempt"
warmup = 1
[[faults.rules]]
kind = "status"
every = 2
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("asked")
    profile = folder / "traced.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    suite = h.write_suite(folder / "suite.jsonl", h.tool_tasks("calculator")[:4], per_run=4)
    return str(profile), "--suite", str(suite), "--runs", "1"


@pytest.fixture(scope="module")
def traced(asked: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a campaign with traces."""
    result = h.matrix(tmp_path_factory.mktemp("with") / "out", *asked, "--trace")
    assert result.status in (0, 3), result.stderr
    assert "spans were dropped" not in result.stderr
    return result.folder


def trace_of(folder: Path, arm: str) -> Trace:
    """The trace of a request of the arm in which a tool was called twice, the first time in vain."""
    return next(
        trace
        for trace in read_traces(folder / "traces").by_id.values()
        if trace.run_id.startswith("traced/")
        and f"/{arm}/" in trace.run_id
        and "warmup" not in trace.run_id
        and (arm == "internal" or any("treni.fault.id" in span.attributes for span in trace.spans))
    )


def paths(trace: Trace) -> Counter[str]:
    """How many spans there are of each name and service, under that of their parents."""
    at = {span.id: span for span in trace.spans}

    def path(id: str) -> str:
        span = at[id]
        above = f"{path(span.parent)} > " if span.parent else ""
        return f"{above}{span.name.removeprefix('treni.v1.')} @{span.service}"

    return Counter(path(span.id) for span in trace.spans if not span.name.startswith("engine."))


RUN = "invoke_agent external @client > AgentService/Run @controller"
CALL = f"{RUN} > execute_tool calculator @controller"


def test_an_external_request_has_client_controller_both_hops_tool_and_engine(traced: Path) -> None:
    trace = trace_of(traced, "external")
    assert paths(trace) == {
        "invoke_agent external @client": 1,
        RUN: 1,
        f"{RUN} > chat @controller": 2,
        f"{RUN} > chat @controller > attempt model @controller": 2,
        f"{RUN} > chat @controller > attempt model @controller > InferenceService/Generate @agent": 2,
        f"{RUN} > chat @controller > attempt model @controller > InferenceService/Generate @agent > engine @agent": 2,
        CALL: 1,
        f"{CALL} > attempt tool @controller": 2,
        f"{CALL} > backoff @controller": 1,
        f"{CALL} > attempt tool @controller > ToolService/Call @tools": 2,
        f"{CALL} > attempt tool @controller > ToolService/Call @tools > tool calculator @tools": 1,
    }
    (hurt,) = (span for span in trace.spans if span.name == "attempt tool" and span.failed)
    assert hurt.attributes["treni.fault.id"].startswith("traced:tool:")
    assert (hurt.attributes["treni.attempt"], hurt.attributes["treni.outcome"]) == (0, "fail")
    refused = trace.children[hurt.id]
    assert [span.attributes["error.type"] for span in refused] == ["injected_status"]
    for engine in (span for span in trace.spans if span.name == "engine"):
        assert {"engine.prefill", "engine.decode"} <= {span.name for span in trace.children[engine.id]}


def test_an_internal_request_has_the_same_in_two_processes(traced: Path) -> None:
    run = "invoke_agent internal @client > AgentService/Run @agent"
    assert paths(trace_of(traced, "internal")) == {
        "invoke_agent internal @client": 1,
        run: 1,
        f"{run} > chat @agent": 2,
        f"{run} > chat @agent > attempt model @agent": 2,
        f"{run} > chat @agent > attempt model @agent > engine @agent": 2,
        f"{run} > execute_tool calculator @agent": 1,
        f"{run} > execute_tool calculator @agent > attempt tool @agent": 1,
        f"{run} > execute_tool calculator @agent > attempt tool @agent > tool calculator @agent": 1,
    }


def test_the_command_finds_them_whole_and_their_time_explained(traced: Path) -> None:
    told = h.verb("traces", traced, "--format", "json")
    assert told.returncode == 0, told.stderr
    arms = json.loads(told.stdout)["arms"]
    for arm in ("external", "internal"):
        assert arms[arm]["unexplained"] < 0.05
    assert arms["external"]["traces"] == 4
    assert arms["internal"]["traces"] == 8  # its own requests, and those of the cell aa


def test_a_trace_that_lost_a_span_is_told(traced: Path, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_bytes((traced / "history.jsonl").read_bytes())
    (tmp_path / "traces").mkdir()
    for path in (traced / "traces").iterdir():
        if not path.name.startswith("controller"):
            (tmp_path / "traces" / path.name).write_bytes(path.read_bytes())
    done = h.verb("traces", tmp_path)
    assert done.returncode == 1
    assert "the parent of treni.v1.InferenceService/Generate in agent" in done.stderr


def test_evidence_is_as_without_traces(traced: Path, asked: tuple[str, ...], tmp_path: Path) -> None:
    plain = h.matrix(tmp_path / "out", *asked).folder
    assert not (plain / "traces").exists()
    assert h.verb("check", traced).returncode == 0
    assert _shape(plain) == _shape(traced)
    files = {path.name for path in plain.iterdir()}
    assert {path.name for path in traced.iterdir()} == files | {"traces"}
    tables = sorted(name for name in files if name.endswith((".csv", ".md")) or name == "summary.json")
    before = {name: (traced / name).read_bytes() for name in tables}
    (traced / "traces").rename(tmp_path / "moved")
    try:
        h.verb("report", traced)
        assert {name: (traced / name).read_bytes() for name in tables} == before
    finally:
        (tmp_path / "moved").rename(traced / "traces")


def _shape(folder: Path) -> tuple[Any, Any]:
    """What of a campaign's evidence does not depend on when it was made."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    shape = []
    for line in (folder / "history.jsonl").read_bytes().splitlines():
        event = json.loads(line)
        record = event.get("record") or {}
        attempts = [
            [one[key] for key in ("hop", "attempt", "outcome", "kind", "fault_id", "idempotency_key")]
            for one in record.get("attempts", ())
        ]
        known = {
            key: event.get(key) for key in ("type", "cell", "pair", "arm", "outcome", "answer", "faults")
        }
        shape.append((known, sorted(event), sorted(record), attempts))
    return _keys(manifest), shape


def _keys(value: Any) -> Any:
    """A value of JSON with its keys and none of its texts and numbers."""
    if isinstance(value, dict):
        return {key: _keys(one) for key, one in value.items()}
    return [_keys(one) for one in value] if isinstance(value, list) else type(value).__name__
