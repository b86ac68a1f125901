"""Campaigns on one machine whose services are killed and paused, end to end: planned, delivered, observed, healed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from matrices.checks import disturbances
from matrices.checks.check import CellJudgement, check
from matrices.evidence import events as ev
from matrices.evidence.campaign import load_campaign
from matrices.evidence.history import read_history
from matrices.evidence.manifest import read_manifest
from tests.matrices import harness as h
from tests.processes import wait_gone

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

SUITE = ("--suite", "tool_only", "--runs", "2")
STRUCK = 3
"""How many of the suite's eight requests the schedule below strikes."""


def profile(
    folder: Path, kind: str, duration: str, *, hop: str = "tool", retries: int = 5, more: str = ""
) -> str:
    """A profile of the name that the kind ends with."""
    name = kind.rpartition("_")[2]
    path = folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\ntitle = "t"\n[policy]\nrun_timeout = "200s"\ntool_timeout = "4s"\nmodel_timeout = "8s"\n'
        f'retries = {retries}\nbackoff_initial = "500ms"\nbackoff_max = "8s"\n'
        f'[faults]\nsite = "host"\nhop = "{hop}"\nby = "request"\nseed = 3\n'
        f'[[faults.rules]]\nevery = 4\nkind = "{kind}"\nduration = "{duration}"\n{more}',
        encoding="utf-8",
    )
    return str(path)


class Told:
    """What a campaign's history tells of one cell."""

    def __init__(self, folder: Path, cell: str) -> None:
        campaign = load_campaign(folder)[0]
        self.events = read_history(campaign.history_path).events
        judged = check(read_manifest(folder / "manifest.json"), self.events, campaign.expectations)
        self.judgement: CellJudgement = next(one for one in judged if one.cell == cell)
        self.struck = [one for one in self.events if isinstance(one, ev.Struck) and one.cell == cell]
        self.healed = [one for one in self.events if isinstance(one, ev.Healed) and one.cell == cell]

    def goes_as_planned(self, count: int, arm: str = "external") -> None:
        """Complete, nothing held against it, and of each of `count` faults the same told by all three."""
        assert self.judgement.complete
        assert self.judgement.findings == ()
        account = self.judgement.faults[arm]
        assert len(account.planned) == count
        assert sorted(account.planned) == sorted(account.delivered) == sorted(account.observed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign in which the tools are killed, then one in which they are paused, one request at a time."""
    scratch = tmp_path_factory.mktemp("struck")
    both = ",".join((profile(scratch, "service_killed", "1s"), profile(scratch, "service_paused", "5s")))
    result = h.matrix(scratch / "out", both, *SUITE)
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    return result.folder


def test_a_killed_service_comes_back_and_every_call_takes_effect_once(folder: Path) -> None:
    told = Told(folder, "killed")
    told.goes_as_planned(STRUCK)
    assert {one.roles for one in told.struck} == {("tools",)}
    assert len(told.struck) == len(told.healed) == STRUCK
    pids = [one.pids["tools"] for one in told.healed]
    assert len(set(pids)) == STRUCK
    for one in told.healed:
        assert one.lasted_s >= 1.0
        assert one.back_s > one.healed_s
    effects = told.judgement.effects["external"]
    assert effects.recorded > 0
    assert (effects.lost, effects.duplicate, effects.stranger) == (0, 0, 0)
    internal, external = told.judgement.recoveries
    assert (internal.strikes, len(external.strikes)) == ((), STRUCK)
    assert all(one.detect_s is not None for one in external.strikes)


def test_a_paused_service_goes_on_in_the_process_that_it_was(folder: Path) -> None:
    told = Told(folder, "paused")
    told.goes_as_planned(STRUCK)
    assert all(one.pids == {} and one.lasted_s >= 5.0 for one in told.healed)
    (start,) = [one for one in told.events if isinstance(one, ev.CellStarted) and one.cell == "paused"]
    assert start.pids["tools"] > 1
    for one in told.judgement.recoveries[1].strikes:
        assert one.detect_s is not None
        assert one.detect_s >= 3.9  # the caller's own limit: no connection broke


def test_the_report_says_how_the_arms_came_through(folder: Path) -> None:
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert "hosts that were struck" in summary
    assert "time to recover after healing" in summary
    assert "killed:tool:r1c0a0:service_killed" in summary
    assert h.verb("report", folder).returncode in (0, 3)


def test_others_that_come_by_are_hurt_by_name_and_nothing_else_is(tmp_path: Path) -> None:
    """Without retries whoever meets the outage fails, and each failure has its fault."""
    path = profile(tmp_path, "service_killed", "2s", hop="model", retries=0)
    result = h.matrix(tmp_path / "out", path, *SUITE, "--concurrency", "4")
    assert result.status in (0, 3), result.stderr
    told = Told(result.folder, "killed")
    assert told.judgement.findings == ()
    account = told.judgement.faults["external"]
    assert set(account.delivered) <= set(account.planned)
    assert account.delivered
    failed = [by_arm["external"] for by_arm in told.judgement.runs.values() if not by_arm["external"].ok]
    assert len(failed) >= len(account.delivered)
    assert all(by_arm["internal"].ok for by_arm in told.judgement.runs.values())
    external = told.judgement.recoveries[1]
    assert external.errors_during + external.errors_after == len(failed)


@pytest.mark.soak
def test_a_strike_at_the_agent_meets_both_arms(tmp_path: Path) -> None:
    result = h.matrix(tmp_path / "out", profile(tmp_path, "service_paused", "2s", hop="agent"), *SUITE)
    assert result.status in (0, 3), result.stderr
    told = Told(result.folder, "paused")
    told.goes_as_planned(len(told.judgement.faults["external"].planned))
    told.goes_as_planned(len(told.judgement.faults["external"].planned), "internal")
    assert {one.roles for one in told.struck} == {("runtime",), ("controller",)}
    assert all(run.ok for by_arm in told.judgement.runs.values() for run in by_arm.values())


@pytest.mark.soak
def test_a_harness_that_is_killed_under_a_strike_goes_on_with_the_same_account(tmp_path: Path) -> None:
    path, out = profile(tmp_path, "service_killed", "1s"), tmp_path / "out"
    process = h.start(path, *SUITE, "--out", str(out))
    for count in (1, 2):
        h.wait_until(partial(_has_struck, out, count), process)
        pids = [*h.pids_of(out, "killed").values()]
        process.kill()
        process.communicate()
        wait_gone(pids)
        process = h.start("--resume", str(h.folder_in(out)))
    result = h.finish(process, out)
    assert result.status in (0, 3), result.stderr
    told = Told(result.folder, "killed")
    told.goes_as_planned(STRUCK)
    assert len({disturbances.epoch_of(one.run_id) for one in told.struck}) >= 2


def _has_struck(out: Path, count: int) -> bool:
    return len([event for event in h.events(out) if event["type"] == "struck"]) >= count


def test_a_link_is_nothing_that_one_machine_has(tmp_path: Path) -> None:
    path = profile(tmp_path, "partition", "9s", hop="model")
    process = h.start(path, *SUITE, "--dry-run", "--out", str(tmp_path / "out"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 2
    assert "the link to another host" in stderr
    assert not (tmp_path / "out").exists()
