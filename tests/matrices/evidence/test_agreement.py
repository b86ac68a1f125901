"""Two campaigns beside each other: what differs is found, named, and told from rounding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner

from matrices.cli.main import main
from matrices.evidence import chain
from matrices.evidence import events as ev
from matrices.evidence.agreement import Difference, agreement, refuse_other_plans
from matrices.evidence.campaign import load_campaign
from matrices.evidence.history import HistoryWriter
from matrices.evidence.manifest import Manifest, dump_manifest, parse_manifest
from tests.matrices import histories as h
from tests.places import ROOT
from treni.errors import Code, TreniError
from treni.v1 import agent_pb2

ARMS = ("internal", "external")
Change: TypeAlias = tuple[tuple[str | int, ...], object]
"""A path into a manifest, and what stands there then."""
KEPT = ROOT / "examples" / "matrix-h200" / "run" / "manifest.json"


def _campaign(
    changed: ev.Outcome | None = None, pairs: int = 4, task_id: str | None = None
) -> list[ev.Event]:
    """One cell in which the external run of pair 1 is as asked."""
    made: dict[int, list[ev.Event]] = {}
    for pair in range(pairs):
        outcomes = {"external": changed} if pair == 1 and changed is not None else {}
        made[pair] = h.pair_events("p00", pair, block=pair // 4, outcomes=outcomes, task_id=task_id)
    return h.cell_events("p00", made)


def _margin(record: dict[str, Any], margin: float) -> dict[str, Any]:
    return record | {"awareness": {"min_margin": margin}}


def _only(first: list[ev.Event], second: list[ev.Event]) -> Difference:
    arms = agreement(first, second)
    found = [one for arm in arms for one in arm.differences]
    assert len(found) == 1
    return found[0]


def test_the_same_campaign_agrees_with_itself_whatever_its_times() -> None:
    slower = h.outcome("p00", 1, "external", latency_s=9.0, ttft_s=8.0)
    arms = agreement(_campaign(), _campaign(slower))
    assert [(arm.arm, arm.runs, arm.errors, arm.retries, arm.differences) for arm in arms] == [
        ("external", 4, (0, 0), (0, 0), ()),
        ("internal", 4, (0, 0), (0, 0), ()),
    ]


@pytest.mark.parametrize(
    ("aspect", "changes"),
    [
        ("answer", {"answer": "43"}),
        ("calls", {"record": h.record("external", tools=[h.tool_use(amount=6)])}),
        ("attempts", {"record": h.record("external", attempts=[h.attempt(), h.attempt("tool")])}),
        ("tokens", {"record": h.record("external", completion=13)}),
    ],
)
def test_the_first_aspect_that_differs_is_named(aspect: str, changes: dict[str, Any]) -> None:
    found = _only(_campaign(), _campaign(h.outcome("p00", 1, "external", **changes)))
    assert (found.aspect, found.pair, found.task_id, found.arm) == (aspect, 1, "task1", "external")
    assert found.first != found.second


def test_an_error_on_one_side_only_is_counted_and_found() -> None:
    arms = agreement(_campaign(), _campaign(h.failed("p00", 1, "external", answer="42")))
    external = arms[0]
    assert external.errors == (0, 1)
    assert [one.aspect for one in external.differences] == ["outcome"]


def test_retries_of_both_sides_are_counted() -> None:
    retried = h.record("external", attempts=[h.attempt("tool", code="UNAVAILABLE"), h.attempt("tool", nth=1)])
    arms = agreement(_campaign(), _campaign(h.outcome("p00", 1, "external", record=retried)))
    assert arms[0].retries == (0, 1)


def test_only_what_the_model_wrote_can_be_a_near_tie() -> None:
    base = h.record("external")
    wrote = h.outcome("p00", 1, "external", answer="43", record=_margin(base, 0.01))
    first = _campaign(h.outcome("p00", 1, "external", record=_margin(base, 2.0)))
    found = _only(first, _campaign(wrote))
    assert found.margin == pytest.approx(0.01)
    assert found.is_near_tie(0.1)
    assert not found.is_near_tie(0.0)
    failed = h.failed("p00", 1, "external", answer="42", record=_margin(base, 0.01))
    assert not _only(first, _campaign(failed)).is_near_tie(0.1)


def test_without_a_record_there_is_no_near_tie() -> None:
    found = _only(_campaign(), _campaign(h.failed("p00", 1, "external", record=None)))
    assert found.margin is None
    assert not found.is_near_tie(100.0)


@pytest.mark.parametrize(
    "other",
    [
        _campaign(pairs=3),
        _campaign(task_id="another"),
        [],
        h.cell_events("p01", {0: h.pair_events("p01", 0, block=0)}),
    ],
)
def test_campaigns_of_other_plans_are_refused(other: list[ev.Event]) -> None:
    with pytest.raises(TreniError) as caught:
        agreement(_campaign(), other)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.kind == "plans_differ"


def _manifest(changes: Sequence[Change] = (), **of_campaign: Any) -> Manifest:
    """The kept campaign's manifest with values changed, each by its path."""
    data = json.loads(KEPT.read_bytes()) | of_campaign
    for path, value in changes:
        *way, last = path
        place = data
        for step in way:
            place = place[step]
        place[last] = value
    return parse_manifest(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("changes", "of_campaign", "word"),
    [
        ([(("cells", 1, "policy", "tool_timeout"), 0.5)], {}, "p00: policy.tool_timeout"),
        ([(("cells", 4, "policy", "retries"), 3)], {}, "policy.retries"),
        ([(("cells", 4, "policy", "backoff_jitter"), 0.0)], {}, "policy.backoff_jitter"),
        ([(("cells", 4, "schedule", "seed"), 9)], {}, "faults.seed"),
        ([(("cells", 4, "schedule_hash", "external"), "0")], {}, "digests"),
        ([(("cells", 4, "schedule", "rules", 0, "every"), 6)], {}, "faults.rules"),
        ([(("cells", 4, "profile"), "p03_other")], {}, "profile"),
        ([], {"seed": 7}, "seed"),
        ([], {"runs": 7}, "runs"),
        ([], {"concurrency": 4}, "concurrency"),
        ([], {"idempotency": False}, "idempotency"),
        ([], {"fault_seeds": 2}, "fault seeds"),
    ],
)
def test_campaigns_of_other_policies_timeouts_or_seeds_are_refused(
    changes: Sequence[Change], of_campaign: dict[str, Any], word: str
) -> None:
    with pytest.raises(TreniError, match=word) as caught:
        refuse_other_plans(_manifest(), _manifest(changes, **of_campaign))
    assert (caught.value.code, caught.value.kind) == (Code.INVALID_ARGUMENT, "plans_differ")


def test_campaigns_of_one_plan_may_have_run_anywhere() -> None:
    other = _manifest(
        [(("model", "backend"), "numpy"), (("details", "backend"), "numpy")],
        topology="hosts",
        commit="another",
        margin=0.2,
    )
    refuse_other_plans(_manifest(), other)


def test_a_tool_use_that_is_spelt_differently_is_the_same() -> None:
    spaced = agent_pb2.ToolUse(name="x", arguments_json='{"a": 1, "b": 2}')
    tight = agent_pb2.ToolUse(name="x", arguments_json='{"b":2,"a":1}')
    sides = [
        _campaign(h.outcome("p00", 1, "external", record=h.record("external", tools=[use])))
        for use in (spaced, tight)
    ]
    assert all(not arm.differences for arm in agreement(*sides))


def test_a_folder_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == 2


def _command(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    result = CliRunner().invoke(main, ["compare", *arguments, "--format", "json"])
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_what_scripts_read_is_still_there_with_times_and_configuration_beside_it() -> None:
    split = ROOT / "examples" / "matrix-h200-split" / "run"
    status, entries, _ = _command(str(KEPT.parent), str(split))
    assert status == 0
    assert len(entries) == 14
    p03 = next(one for one in entries if (one["cell"], one["arm"]) == ("p03", "external"))
    assert {"cell", "arm", "runs", "errors", "retries", "differences"} <= set(p03)
    assert (p03["runs"], p03["errors"], p03["differences"]) == (48, [2, 2], [])
    assert p03["latency"]["first_s"] < p03["latency"]["second_s"]
    difference, change = p03["latency"]["difference_s"], p03["ratio"]["change"]
    assert difference["low"] < difference["value"] < difference["high"]
    assert change["low"] < change["value"] < change["high"]
    assert p03["ratio"]["second"] / p03["ratio"]["first"] == pytest.approx(change["value"])
    assert "placement differs" in p03["conditions_differ"]
    assert {"topology", "versions.numpy"} & {one["key"] for one in p03["configuration"]} == {"topology"}


def test_of_other_plans_what_they_share_is_compared_and_the_rest_named(tmp_path: Path) -> None:
    _, manifest, history = load_campaign(KEPT.parent)
    cells = ("aa", "p00")
    other = tmp_path / "run"
    other.mkdir()
    suite = (KEPT.parent / "suite.jsonl").read_bytes()
    written = dump_manifest(
        replace(manifest, cells=tuple(cell for cell in manifest.cells if cell.name in cells))
    )
    (other / "manifest.json").write_bytes(written)
    (other / "suite.jsonl").write_bytes(suite)
    opened = ev.Opened(
        version=manifest.version, manifest_sha256=chain.digest(written), suite_sha256=chain.digest(suite)
    )
    with closing(HistoryWriter.create(other / "history.jsonl", opened)) as writer:
        for event in history.events:
            if getattr(event, "cell", None) in cells or isinstance(event, ev.Sealed):
                writer.append(event)
    status, entries, said = _command(str(KEPT.parent), str(other))
    assert status == 2
    assert {one["cell"] for one in entries} == {"aa", "p00"}
    assert all(one["differences"] == [] and one["ratio"]["change"]["value"] == 1 for one in entries)
    assert "not compared: p05: not in the second campaign" in said
    assert "not compared: the plans: " in said
