"""Campaigns whose faults break hosts, end to end: who fails, who comes back, who else was hurt, and by what."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from matrices.checks import collateral
from matrices.evidence import events as ev
from matrices.evidence.campaign import load_campaign
from matrices.evidence.history import CellState, read_history, state_of
from tests.matrices import harness as h
from tests.processes import wait_gone

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

ARMS = ("internal", "external")


def profile(path: Path, rule: str, *, tool_timeout: str = "10s") -> Path:
    """Strikes the requests 1, 2 and 5 of `tool_only`."""
    path.write_text(
        f'name = "{path.stem}"\ntitle = "t"\n[policy]\nretries = 0\ntool_timeout = "{tool_timeout}"\n'
        f'[faults]\nsite = "tool"\nby = "request"\nseed = 3\n[[faults.rules]]\nevery = 4\n{rule}',
        encoding="utf-8",
    )
    return path


def run(path: Path, *more: str) -> h.Result:
    return h.matrix(path.parent / f"out-{path.stem}", str(path), *_suite(), *more)


def _suite() -> tuple[str, ...]:
    return ("--suite", "tool_only", "--runs", "2")


class Told:
    """What the history of a campaign's last cell tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        campaign = load_campaign(folder)[0]
        self.cell = campaign.cells[-1]
        events = read_history(campaign.history_path).events
        self.state: CellState = state_of(events)[self.cell.name]
        self.evidence = collateral.evidence_in(events, campaign.expectations[-1])

    def struck(self, arm: str) -> set[str]:
        return {s.flight.run_id for s in self.evidence.strikes if s.arm == arm and not s.flight.abandoned}

    def failed(self, arm: str) -> dict[str, collateral.Flight]:
        return {f.run_id: f for f in self.evidence.flights if f.arm == arm and f.code}

    def harm(self, arm: str) -> collateral.ArmHarm:
        return next(row for row in collateral.by_arm(self.evidence) if row.arm == arm)

    def outcome(self, arm: str, run_id: str) -> ev.Outcome:
        outcomes = [pair.outcomes[arm] for pair in self.state.completed.values()]
        return next(outcome for outcome in outcomes if outcome.run_id == run_id)

    def ends_as_planned(self) -> None:
        """Struck as the schedule has it, every other failure by a named fault, crashes and restarts in balance."""
        assert self.state.ended is not None
        assert self.state.ended.status == "complete", self.state.ended.detail
        assert len(self.state.completed) == len(self.cell.pairs)
        for arm in ARMS:
            prediction = self.cell.prediction(arm)
            assert prediction is not None
            planned = Counter(prediction.fault_ids)
            met = Counter(
                strike.fault_id
                for strike in self.evidence.strikes
                if strike.arm == arm and not strike.flight.abandoned
            )
            failed, struck = self.failed(arm), self.struck(arm)
            others = [flight for run_id, flight in failed.items() if run_id not in struck]
            assert all(collateral.culprits(flight, self.evidence) for flight in others), others
            # Whoever was planned a fault and never met it was hurt on the way there.
            assert sum((planned - met).values()) <= len(others)
            assert not met - planned
            assert struck - set(failed) == set() or prediction.errors == 0
        assert collateral.unaccounted(self.evidence) == ()
        checked = h.verb("check", self.folder)
        assert checked.returncode == 0, checked.stdout

    def rows_of_failed(self, arm: str) -> list[str]:
        return [row.run_id for row in self.state.effects[arm] if row.run_id in self.failed(arm)]


@pytest.mark.soak
def test_a_crash_fails_its_request_in_both_arms_and_hurts_nobody_one_at_a_time(tmp_path: Path) -> None:
    told = Told(run(profile(tmp_path / "crash.toml", 'kind = "crash"\n')).folder)
    told.ends_as_planned()
    for arm, role in (("internal", "runtime"), ("external", "tools")):
        assert set(told.failed(arm)) == told.struck(arm)
        assert len(told.struck(arm)) == 3
        assert sum(restart.role == role for restart in told.evidence.restarts) == 3
        assert told.rows_of_failed(arm) == []
        for run_id in told.struck(arm):
            outcome = told.outcome(arm, run_id)
            assert outcome.error is not None
            # Inside, the loop and its record die with the host; outside, the controller is there to tell.
            assert (outcome.outcome, outcome.error.code) == ("unknown", "UNAVAILABLE")
            assert (outcome.record is None) == (arm == "internal")
            assert (outcome.error.fault_id == "") == (arm == "internal")
        row = told.harm(arm)
        assert (row.faults, row.hurt, list(row.roles)) == (3, 0, [role])
        assert row.recovery_median_s is not None
    assert len(told.evidence.restarts) == 6


@pytest.mark.soak
def test_crashes_beside_other_requests_hurt_them_by_name(tmp_path: Path) -> None:
    told = Told(run(profile(tmp_path / "crash.toml", 'kind = "crash"\n'), "--concurrency", "6").folder)
    told.ends_as_planned()
    internal, external = collateral.by_arm(told.evidence)
    assert internal.faults > 0
    assert external.faults > 0


def test_a_hang_past_the_timeout_fails_its_request_and_freezes_only_its_host(tmp_path: Path) -> None:
    path = profile(tmp_path / "hang.toml", 'kind = "hang"\nduration = "4s"\n', tool_timeout="2s")
    told = Told(run(path).folder)
    told.ends_as_planned()
    assert told.evidence.restarts == ()
    for arm, role in (("internal", "runtime"), ("external", "tools")):
        assert set(told.failed(arm)) == told.struck(arm)
        assert told.rows_of_failed(arm) == []
        for run_id in told.struck(arm):
            outcome = told.outcome(arm, run_id)
            assert outcome.error is not None
            assert (outcome.error.code, outcome.record is None) == ("DEADLINE_EXCEEDED", False)
            assert outcome.error.fault_id != ""
            # Inside, who waits is frozen too, and gives up only when the hang is over.
            assert outcome.latency_s >= (4.0 if arm == "internal" else 2.0)
        row = told.harm(arm)
        assert (row.faults, row.hurt) == (3, 0)
        assert row.roles[role] >= 3.5


@pytest.mark.soak
def test_hogs_and_leaks_are_answered_late(tmp_path: Path) -> None:
    for rule in (
        'kind = "hog"\nduration = "500ms"\nmemory_mb = 64\n',
        'kind = "leak"\nsize_mb = 64\n',
    ):
        kind = rule.split('"')[1]
        told = Told(run(profile(tmp_path / f"{kind}.toml", rule)).folder)
        told.ends_as_planned()
        for arm in ARMS:
            assert told.failed(arm) == {}
            assert len(told.struck(arm)) == 3
            row = told.harm(arm)
            assert row.host_grown_mb is not None
            if kind == "leak":
                assert (
                    row.host_grown_mb >= 128
                )  # the third may come in the last block, whose end is still to come


@pytest.mark.soak
def test_a_harness_that_is_killed_among_crashes_goes_on_with_the_same_account(tmp_path: Path) -> None:
    path = profile(tmp_path / "crash.toml", 'kind = "crash"\n')
    out = tmp_path / "killed"
    process = h.start(str(path), *_suite(), "--concurrency", "6", "--out", str(out))
    for crashes in (1, 2):
        h.wait_until(partial(_has_restarts, out, crashes), process)
        pids = [*h.pids_of(out, "crash").values(), *_restarted_pids(out)]
        process.kill()
        process.communicate()
        wait_gone(pids)
        process = h.start("--resume", str(h.folder_in(out)))
    result = h.finish(process, out)
    told = Told(result.folder)
    told.ends_as_planned()
    assert len(told.state.starts) >= 2


def _has_restarts(out: Path, count: int) -> bool:
    return len(_restarted_pids(out)) >= count


def _restarted_pids(out: Path) -> list[int]:
    return [int(str(event["pid"])) for event in h.events(out) if event["type"] == "restarted"]


@pytest.mark.soak
@pytest.mark.parametrize("role", ["tools", "model"])
def test_a_death_that_no_fault_planned_breaks_the_cell(tmp_path: Path, role: str) -> None:
    path = profile(tmp_path / "leak.toml", 'kind = "leak"\nsize_mb = 1\n')
    out = tmp_path / "out"
    process = h.start(str(path), *_suite(), "--out", str(out))
    h.wait_for(lambda: _completed(out) >= 2, process)
    h.kill(h.pids_of(out, "leak")[role])
    result = h.finish(process, out)
    told = Told(result.folder)
    assert told.state.ended is not None
    assert (told.state.ended.status, told.state.ended.detail) == (
        "broken",
        f"{role} was killed by SIGKILL",
    )
    assert told.failed("internal") == {}
    assert told.evidence.restarts == ()
    assert result.status == 1
    healed = h.resume(result.folder)
    assert healed.status in (0, 3), healed.stderr
    Told(healed.folder).ends_as_planned()


def _completed(out: Path) -> int:
    return sum(event["type"] == "pair_complete" and event["cell"] == "leak" for event in h.events(out))
