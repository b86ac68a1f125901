"""The gate on a kept campaign and on what was done to it: verdicts, statuses, and the forms that programs read."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from matrices.cli.main import main
from matrices.evidence import events as ev
from matrices.evidence.campaign import Campaign, load_campaign
from matrices.evidence.history import History
from matrices.evidence.manifest import Manifest
from matrices.report.between import between
from matrices.report.figures import figures
from matrices.report.gate import Check, Gated, GateStatus, GateVerdict, gate_between, gate_limits
from matrices.report.gate_formats import as_github, as_json, as_junit, name_of
from matrices.report.judged import JudgedCampaign, judged_campaign
from tests.places import ROOT

KEPT = ROOT / "examples" / "matrix-h200" / "run"
SPLIT = ROOT / "examples" / "matrix-h200-split" / "run"
Change = Callable[[ev.Outcome], ev.Outcome]


CELLS = ("aa", "p00", "p04")


@cache
def loaded() -> tuple[Campaign, Manifest, History]:
    return load_campaign(KEPT)


def changed(change: Change) -> JudgedCampaign:
    """Some cells of the kept campaign, with other outcomes."""
    campaign, manifest, history = loaded()
    events = [
        change(one) if isinstance(one, ev.Outcome) else one
        for one in history.events
        if getattr(one, "cell", "aa") in CELLS
    ]
    cells = tuple(cell for cell in manifest.cells if cell.name in CELLS)
    expected = [one for one in campaign.expectations if one.cell in CELLS]
    return judged_campaign(replace(manifest, cells=cells), events, expected)


@cache
def kept() -> JudgedCampaign:
    return changed(lambda one: one)


def slower(factor: float, *arms: str, cell: str = "p00") -> Change:
    def change(one: ev.Outcome) -> ev.Outcome:
        hit = one.cell == cell and one.arm in arms
        return replace(one, latency_s=one.latency_s * factor) if hit else one

    return change


def failing(pairs: int, arm: str = "external", cell: str = "p00") -> Change:
    broken = ev.RunError(
        code="INTERNAL", kind="broken", definite=False, message="it broke", hop="model", fault_id=""
    )

    def change(one: ev.Outcome) -> ev.Outcome:
        hit = (one.cell, one.arm) == (cell, arm) and one.pair < pairs
        return replace(one, outcome="fail", error=broken, correct=None) if hit else one

    return change


def gated(
    second: JudgedCampaign, *, margin: float = 0.1, latency: bool = False, first: JudgedCampaign | None = None
) -> Gated:
    return gate_between(between(first or kept(), second), margin=margin, latency=latency)


def said(found: Gated, cell: str, what: str, arm: str = "external") -> GateVerdict:
    return next(one.verdict for one in found.checks if (one.cell, one.what, one.arm) == (cell, what, arm))


def test_a_campaign_passes_against_itself() -> None:
    found = gated(kept(), latency=True)
    assert (found.verdict, found.status) == (GateVerdict.PASS, GateStatus.PASS)
    assert {one.cell for one in found.checks} == {"p00", "p04"}
    assert {one.what for one in found.checks} == {"ratio", "latency", "errors"}


def test_a_slower_external_arm_is_a_regression_of_its_profile_and_of_no_other() -> None:
    found = gated(changed(slower(1.5, "external")))
    assert (found.verdict, found.status) == (GateVerdict.REGRESSION, GateStatus.REGRESSION)
    assert [one.cell for one in found.checks if one.verdict is GateVerdict.REGRESSION] == ["p00"]
    check = next(one for one in found.checks if (one.cell, one.what) == ("p00", "ratio"))
    assert check.value == pytest.approx(0.5)


def test_the_margin_is_what_a_change_is_held_against() -> None:
    second = changed(slower(1.5, "external"))
    assert said(gated(second, margin=0.6), "p00", "ratio") is GateVerdict.PASS
    assert said(gated(second, margin=0.4), "p00", "ratio") is GateVerdict.REGRESSION


def test_both_arms_slower_is_seen_by_their_latencies_and_not_by_their_ratio() -> None:
    second = changed(slower(1.5, "external", "internal"))
    found = gated(second, latency=True)
    assert said(found, "p00", "ratio") is GateVerdict.PASS
    assert said(found, "p00", "latency", "internal") is GateVerdict.REGRESSION
    assert gated(second).verdict is GateVerdict.PASS


def test_a_faster_external_arm_passes() -> None:
    assert gated(changed(slower(0.5, "external"))).verdict is GateVerdict.PASS


@pytest.mark.parametrize(("pairs", "verdict"), [(1, GateVerdict.INCONCLUSIVE), (12, GateVerdict.REGRESSION)])
def test_errors_beyond_the_schedule_are_a_regression_where_chance_does_not_give_them(
    pairs: int, verdict: GateVerdict
) -> None:
    found = gated(changed(failing(pairs)))
    assert said(found, "p00", "errors") is verdict
    assert said(found, "p04", "errors") is GateVerdict.PASS, "its four errors are planned"
    # The other way round there are fewer.
    assert said(gated(kept(), first=changed(failing(pairs))), "p00", "errors") is GateVerdict.PASS


def test_findings_leave_no_pass_and_only_errors_to_be_judged() -> None:
    plain, errors = between(kept(), kept()), between(kept(), changed(failing(12)))
    found = gate_between(plain, margin=0.1, latency=False, findings=("second: something",))
    assert found.status is GateStatus.FINDINGS
    found = gate_between(errors, margin=0.1, latency=False, findings=("second: something",))
    assert found.status is GateStatus.REGRESSION


def test_a_bias_of_the_processes_makes_every_interval_wider() -> None:
    biased = changed(slower(1.3, "internal_b", cell="aa"))
    narrow, wide = between(kept(), kept()), between(kept(), biased)
    assert [cell.biased for cell in wide.cells] == [(1,)] * 3
    one, other = narrow.cells[1].change, wide.cells[1].change
    assert one is not None
    assert other is not None
    assert other.high > one.high * 1.25
    assert other.low < one.low / 1.25


def test_profiles_that_one_campaign_lacks_are_not_passed_over() -> None:
    first = kept()
    second = replace(first, cells={name: of for name, of in first.cells.items() if name != "p04"})
    found = gated(second)
    assert found.verdict is GateVerdict.INCONCLUSIVE
    assert [one.why for one in found.checks if one.cell == "p04"] == [
        "not compared: not in the second campaign"
    ]


def test_nothing_to_check_is_no_pass() -> None:
    assert Gated(checks=(), notes=(), findings=()).status is GateStatus.INCONCLUSIVE


def test_one_campaign_is_held_against_limits() -> None:
    campaign, manifest, history = loaded()
    result = figures(manifest, history.events, campaign.expectations)
    found = gate_limits(result, max_ratio=2.0, max_error_rate=0.05)
    assert {one.cell: one.verdict for one in found.checks if one.what == "ratio"} == {
        "p00": GateVerdict.PASS,
        "p01": GateVerdict.PASS,
        "p02": GateVerdict.INCONCLUSIVE,
        "p03": GateVerdict.REGRESSION,
        "p04": GateVerdict.REGRESSION,
        "p05": GateVerdict.REGRESSION,
    }
    assert said(found, "p03", "errors") is GateVerdict.PASS
    assert said(found, "p04", "errors") is GateVerdict.REGRESSION
    assert gate_limits(result, max_ratio=20.0, max_error_rate=None).status is GateStatus.PASS


def command(*arguments: str) -> tuple[int, str, str]:
    ended = CliRunner().invoke(main, ["gate", *arguments])
    return ended.exit_code, ended.stdout, ended.stderr


def test_two_real_campaigns_of_one_plan_pass_on_the_command_line(tmp_path: Path) -> None:
    files = tmp_path / "a.xml", tmp_path / "b.xml"
    for junit in files:
        status, out, _ = command(str(KEPT), str(SPLIT), "--junit", str(junit), "--format", "json")
        assert (status, json.loads(out)["verdict"]) == (0, "pass")
    assert files[0].read_bytes() == files[1].read_bytes()
    assert ElementTree.parse(files[0]).getroot().get("failures") == "0"


def test_the_statuses_of_limits_on_the_command_line() -> None:
    assert command(str(KEPT), "--max-ratio", "20", "--max-error-rate", "0.1")[0] == 0
    assert command(str(KEPT), "--max-error-rate", "0")[0] == 4


def test_a_torn_campaign_never_passes(tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(KEPT, other)
    (other / "history.jsonl").write_bytes((other / "history.jsonl").read_bytes()[:-1])
    status, _, err = command(str(KEPT), str(other))
    assert status == 1
    assert "campaign_unsealed" in err


checks = st.builds(
    Check,
    cell=st.text(max_size=8),
    what=st.sampled_from(["ratio", "errors"]),
    arm=st.text(max_size=8),
    value=st.none() | st.floats(),
    low=st.none() | st.floats(),
    high=st.none() | st.floats(),
    limit=st.floats(),
    worse_p=st.none() | st.floats(0, 1),
    within_p=st.none() | st.floats(0, 1),
    verdict=st.sampled_from(GateVerdict),
    why=st.text(max_size=30),
)
outcomes = st.builds(
    Gated,
    checks=st.lists(checks, max_size=4).map(tuple),
    notes=st.lists(st.text(max_size=10), max_size=2).map(tuple),
    findings=st.lists(st.text(max_size=10), max_size=2).map(tuple),
)


@given(outcomes)
def test_junit_is_xml_whatever_is_in_it_and_counts_what_failed(found: Gated) -> None:
    root = ElementTree.fromstring(as_junit(found))
    assert root.get("tests") == str(len(found.checks) + 1)
    regressions = sum(one.verdict is GateVerdict.REGRESSION for one in found.checks)
    assert len(root.findall(".//failure")) == regressions + bool(found.findings)
    assert root.get("failures") == str(regressions + bool(found.findings))
    inconclusive = sum(one.verdict is GateVerdict.INCONCLUSIVE for one in found.checks)
    assert len(root.findall(".//error")) == inconclusive


@given(outcomes)
def test_annotations_are_a_line_each_and_say_what_was_said(found: Gated) -> None:
    lines = as_github(found).split("\n")
    assert lines[-1] == ""
    assert len(lines) - 1 == len(found.checks) + len(found.findings) + len(found.notes)
    for line, check in zip(lines, found.checks, strict=False):
        match = re.fullmatch(r"::(notice|warning|error) title=([^:,]*)::(.*)", line, re.DOTALL)
        assert match is not None
        assert _unescaped(match[2]) == f"{name_of(check)}: {check.verdict}"
        assert _unescaped(match[3]) == check.why


def _unescaped(text: str) -> str:
    """The text as GitHub's runner reads it."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


@given(outcomes)
def test_json_has_no_number_that_is_none(found: Gated) -> None:
    assert json.loads(json.dumps(as_json(found), allow_nan=False))["verdict"] == found.verdict
