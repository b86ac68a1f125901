"""Campaigns whose harness or services are killed, hung or told to end: what is left, and what resuming makes of it."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from matrices.evidence.campaign import load_campaign
from tests.matrices import harness as h
from tests.processes import wait_gone

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

KILLS = int(os.environ.get("TRENI_KILLS", "1"))
"""How often the harness is killed; `make soak` kills it 20 times."""


def _has_events(out: Path, count: int) -> bool:
    return len(h.events(out)) >= count


def test_a_harness_that_is_killed_again_and_again_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """kill -9 at random moments, each followed by --resume; then the counts of an uninterrupted run."""
    generator = random.Random(KILLS)
    arguments = (h.patient(tmp_path, "p04"), "--suite", "tool_only", "--runs", "3")
    out = tmp_path / "killed"
    process = h.start(*arguments, "--out", str(out))
    h.wait_for(lambda: len(h.events(out)) > 0, process)
    folder = h.folder_in(out)
    for _ in range(KILLS):
        target = len(h.events(out)) + generator.randrange(0, 8)
        pids = h.pids_of(out, "aa") | h.pids_of(out, "p04")
        h.wait_until(partial(_has_events, out, target), process)
        process.kill()
        process.communicate()
        pids |= h.pids_of(out, "aa") | h.pids_of(out, "p04")
        wait_gone(pids.values())
        process = h.start("--resume", str(folder))
    result = h.finish(process, out)
    assert result.status in (0, 3), result.stderr
    plain = h.matrix(tmp_path / "plain", *arguments)
    for arm in ("internal", "external"):
        for column in ("requests", "errors", "error_rate", "retries_mean_success"):
            assert result.summary("p04", arm)[column] == plain.summary("p04", arm)[column]
    completed = Counter(
        (event["cell"], event["pair"]) for event in h.events(out) if event["type"] == "pair_complete"
    )
    campaign, _, _ = load_campaign(folder)
    planned = {(cell.name, pair.pair) for cell in campaign.cells for pair in cell.pairs}
    assert completed == dict.fromkeys(planned, 1)
    assert h.verb("check", folder).returncode == 0


@pytest.mark.parametrize(
    "role",
    [
        "controller",
        *(pytest.param(role, marks=pytest.mark.soak) for role in ("tools", "runtime", "toxiproxy")),
    ],
)
def test_a_service_that_is_killed_ends_its_cell_and_a_resumption_heals_it(tmp_path: Path, role: str) -> None:
    out = tmp_path / "out"
    profile = h.patient(tmp_path, "p00")
    process = h.start(profile, "--suite", "tool_only", "--runs", "3", "--out", str(out))
    h.wait_for(lambda: _completed(out, "p00") >= 2, process)
    h.kill(h.pids_of(out, "p00")[role])
    result = h.finish(process, out)
    assert result.status == 1
    history = h.events(out)
    (end,) = [event for event in history if event["type"] == "cell_end" and event["cell"] == "p00"]
    assert (end["status"], role in str(end["detail"])) == ("broken", True)
    assert "SIGKILL" in str(end["detail"]) or "status -9" in str(end["detail"])
    for outcome in [event for event in history if event["type"] == "outcome" and event["error"] is not None]:
        assert str(end["detail"]) in str(outcome["error"])
    assert history[-1] == end  # not sealed: it is to be gone on with
    assert f"--resume {result.folder}" in result.stderr
    checked = h.verb("check", result.folder)
    assert checked.returncode == 1
    kinds = {line.split()[0] for line in checked.stdout.splitlines()}
    assert kinds == {"cell_broken", "campaign_unsealed"}

    before = result.folder.joinpath("history.jsonl").read_bytes()
    healed = h.resume(result.folder)
    assert healed.status in (0, 3), healed.stderr
    assert healed.folder.joinpath("history.jsonl").read_bytes().startswith(before)
    (discard,) = [event for event in h.events(out) if event["type"] == "discard"]
    assert (discard["cell"], discard["why"]) == ("p00", end["detail"])
    assert str(end["detail"]) in (healed.folder / "summary.md").read_text(encoding="utf-8")
    assert h.verb("check", result.folder).returncode == 0
    assert healed.summary("p00", "external")["requests"] == "12"


@pytest.mark.soak
def test_a_service_that_hangs_ends_its_cell_after_one_request(tmp_path: Path) -> None:
    out = tmp_path / "out"
    profile = h.patient(tmp_path, "p00")
    process = h.start(profile, "--suite", "tool_only", "--runs", "3", "--out", str(out))
    h.wait_for(lambda: _completed(out, "p00") >= 2, process)
    os.kill(h.pids_of(out, "p00")["controller"], signal.SIGSTOP)
    result = h.finish(process, out)
    assert result.status == 1
    history = [event for event in h.events(out) if event.get("cell") == "p00"]
    assert history[-1]["type"] == "cell_end"
    assert "controller d" in str(history[-1]["detail"])
    assert "not answer" in str(history[-1]["detail"])
    # The one that it hung in was the last.
    assert sum(event["type"] == "invoke" for event in history) <= 2 * (_completed(out, "p00") + 1)
    assert _completed(out, "p00") < 12


def _completed(out: Path, cell: str) -> int:
    return sum(event["type"] == "pair_complete" and event["cell"] == cell for event in h.events(out))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_who_is_told_to_end_leaves_a_folder_to_resume_and_no_process(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    out = tmp_path / "out"
    process = h.start(h.patient(tmp_path, "p00"), "--suite", "tool_only", "--runs", "3", "--out", str(out))
    h.wait_for(lambda: _completed(out, "aa") >= 1, process)
    pids = h.pids_of(out, "aa")
    process.send_signal(number)
    stopped = h.finish(process, out)
    assert stopped.status == status
    assert "--resume" in stopped.stderr
    wait_gone(pids.values())
    (tmp_path / "elsewhere").mkdir()
    result = h.resume(stopped.folder.rename(tmp_path / "elsewhere" / "moved"))
    assert result.status in (0, 3), result.stderr
    assert json.loads((result.folder / "summary.json").read_text())["findings"] == []
