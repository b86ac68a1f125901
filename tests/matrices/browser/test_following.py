"""A campaign is followed line by line while it is written, without a trace, and what is damaged is said to be."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from matrices.browser.folder import Campaigns
from matrices.browser.following import QUIET_S, Followed, Progress
from matrices.evidence.campaign import load_campaign
from matrices.evidence.history import HistoryWriter
from matrices.report.figures import figures
from tests.places import ROOT

EXAMPLE = ROOT / "examples" / "matrix-h200" / "run"
LINES = (EXAMPLE / "history.jsonl").read_bytes().splitlines(keepends=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign of which nothing but its manifest is written."""
    made = tmp_path / "one"
    made.mkdir()
    for name in ("manifest.json", "suite.jsonl"):
        shutil.copy(EXAMPLE / name, made / name)
    (made / "history.jsonl").touch()
    return made


def write(folder: Path, data: bytes) -> None:
    with (folder / "history.jsonl").open("ab") as file:
        file.write(data)


def counts(progress: Progress) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {
        (cell.cell, arm.arm): (arm.requests, arm.errors, arm.retries)
        for cell in progress.cells
        for arm in cell.arms
    }


def test_its_counts_grow_to_those_of_the_report(folder: Path) -> None:
    followed = Followed("one", folder)
    seen = [followed.look()]
    for at in range(0, len(LINES), 200):
        # In pieces that end within a line, as a reader may find them.
        piece = b"".join(LINES[at : at + 200])
        write(folder, piece[: len(piece) // 2])
        seen.append(followed.look())
        write(folder, piece[len(piece) // 2 :])
        seen.append(followed.look())
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert (seen[0].done, seen[0].pairs, seen[0].state) == (0, 336, "running")
    assert {one.state for one in seen[:-1]} == {"running"}
    last = seen[-1]
    assert (last.done, last.state, last.problem) == (336, "finished", "")
    assert {cell.state for cell in last.cells} == {"complete"}
    assert counts(last) == counts(Followed("one", folder).look())
    campaign, manifest, history = load_campaign(folder)
    made = figures(manifest, history.events, campaign.expectations)
    assert {key: value[:2] for key, value in counts(last).items()} == {
        (cell.config.name, arm.arm): (arm.requests, arm.errors) for cell in made.cells for arm in cell.arms
    }
    p04 = next(cell for cell in made.cells if cell.config.name == "p04")
    retries = sum(run.retries for pair in p04.observed.pairs for run in pair.runs if run.arm == "external")
    assert counts(last)["p04", "external"][2] == retries > 0


def test_who_follows_leaves_no_trace_and_keeps_nobody_from_writing(folder: Path) -> None:
    write(folder, b"".join(LINES[:50]))
    followed = Followed("one", folder)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    followed.look()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    writer, _ = HistoryWriter.resume(folder / "history.jsonl", wall_time="2026-01-01T00:00:00+00:00")
    with writer:
        assert followed.look().state == "running"
        assert followed.look().problem == ""


def test_an_unfinished_history_that_is_quiet_is_no_running_campaign(folder: Path) -> None:
    write(folder, b"".join(LINES[:50]))
    long_ago_s = time.time() - 2 * QUIET_S
    os.utime(folder / "history.jsonl", (long_ago_s, long_ago_s))
    assert Followed("one", folder).look().state == "stopped"


DAMAGES = {
    "a line dropped": [*LINES[:10], *LINES[11:20]],
    "a line that is none": [*LINES[:10], b"{}\n"],
    "a byte changed": [*LINES[:10], LINES[10].replace(b"internal", b"infernal"), *LINES[11:20]],
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_history_is_said_to_be(folder: Path, what: str) -> None:
    write(folder, b"".join(DAMAGES[what]))
    followed = Followed("one", folder)
    for _ in range(2):  # also when it is looked at again
        found = followed.look()
        assert found.state == "unreadable"
        assert "expected" in found.problem


def test_a_manifest_that_is_none_is_said_to_be_one(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    found = Followed("one", folder).look()
    assert (found.state, found.cells) == ("unreadable", ())


def test_campaigns_are_found_below_a_folder_and_nothing_else_is(folder: Path) -> None:
    write(folder, b"".join(LINES[:10]))
    shutil.copytree(folder, folder.parent / "deep" / "er" / "two")
    shutil.copytree(folder, folder / "inner")
    (folder.parent / "empty").mkdir()
    campaigns = Campaigns(folder.parent)
    assert [one.name for one in campaigns.every()] == ["one", "deep/er/two"]
    assert campaigns.one("one") is not None
    for name in ("", ".", "..", "../" + folder.parent.name + "/one", "one/inner", "/one", "nothing", "one\0"):
        assert campaigns.one(name) is None
    assert [one.name for one in Campaigns(folder).every()] == ["one"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"cells": [1]}', '{"cells": [{"cell": "aa"}]}', '{"cells": null}']
)
def test_a_summary_that_is_none_costs_nothing(folder: Path, text: str) -> None:
    write(folder, b"".join(LINES))
    (folder / "summary.json").write_text(text, encoding="utf-8")
    found = Followed("one", folder).look()
    assert (found.state, found.summary) == ("finished", ())
