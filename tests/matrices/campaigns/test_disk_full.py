"""A disk that is full, really: the kernel refuses the bytes. What stops then is resumed when there is room again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from matrices.evidence import events as ev
from matrices.evidence.history import read_history
from tests.matrices import harness as h
from tests.processes import wait_gone

CELL = "d00"
PROFILE = """
name = "d00_quick"
title = "Faults that cost no time, of both layers"
[policy]
tool_timeout = "2s"
retries = 1
backoff_initial = "10ms"
[[faults.rules]]
kind = "status"
code = "UNAVAILABLE"
every = 3
[[faults.rules]]
kind = "reset"
every = 4
"""

pytestmark = pytest.mark.chaos


def _arguments(tmp_path: Path) -> tuple[str, ...]:
    profile = tmp_path / "d00_quick.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    return (str(profile), "--suite", "tool_only", "--runs", "2", "--out", str(tmp_path / "out"))


def _limited(size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`treni-route matrix ARGUMENTS` while no file may grow beyond `size` bytes."""
    return subprocess.run(
        h.after(
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))",
            "-m",
            "matrices",
            "matrix",
            *arguments,
        ),
        capture_output=True,
        text=True,
        timeout=h.WAIT_S,
        check=False,
    )


def _stopped_for_want_of_room(ended: subprocess.CompletedProcess[str] | h.Result) -> None:
    status = ended.returncode if isinstance(ended, subprocess.CompletedProcess) else ended.status
    assert status == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "free disk space" in ended.stderr
    assert "go on with: treni-route matrix --resume" in ended.stderr


def _passes_when_there_is_room(folder: Path) -> None:
    result = h.resume(folder)
    assert result.status in (0, 3), result.stderr
    checked = h.verb("check", folder)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


@pytest.mark.parametrize("size", [45_000])
def test_a_history_without_room_is_resumed_when_there_is(tmp_path: Path, size: int) -> None:
    out = tmp_path / "out"
    arguments = _arguments(tmp_path)
    _stopped_for_want_of_room(_limited(size, *arguments))
    folder = h.folder_in(out)
    history = read_history(folder / "history.jsonl")
    assert history.torn_bytes == 0
    _stopped_for_want_of_room(_limited(size, "--resume", str(folder)))
    _passes_when_there_is_room(folder)
    starts = [
        event.epoch
        for event in read_history(folder / "history.jsonl").events
        if isinstance(event, ev.CellStarted)
    ]
    assert starts == sorted(starts)


def test_a_fault_that_cannot_be_written_down_completes_no_pair(tmp_path: Path) -> None:
    """The disk under the delivery log alone is full: `/dev/full` refuses each byte as a full disk does."""
    out = tmp_path / "out"
    process = h.start(*_arguments(tmp_path))
    h.wait_for(lambda: bool(h.pids_of(out, "aa")), process)
    log = h.folder_in(out) / "cells" / CELL / "deliveries-tools-external.jsonl"
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    ended = h.finish(process, out)
    _stopped_for_want_of_room(ended)
    completed = [
        event
        for event in read_history(ended.folder / "history.jsonl").events
        if isinstance(event, ev.Outcome) and event.cell == CELL and event.outcome != "ok"
    ]
    assert completed == []
    log.unlink()
    _passes_when_there_is_room(ended.folder)


@pytest.mark.soak
def test_a_torn_line_in_a_delivery_log_bricks_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = h.start(*_arguments(tmp_path))
    h.wait_for(
        lambda: any(
            log.stat().st_size for log in out.glob(f"*/cells/{CELL}/deliveries-tools-external.jsonl")
        ),
        process,
    )
    h.kill(process.pid)
    process.wait()
    wait_gone(h.pids_of(out, CELL).values())
    with (h.folder_in(out) / "cells" / CELL / "deliveries-tools-external.jsonl").open("ab") as file:
        file.write(b'{"fault_id":"d00:to')
    _passes_when_there_is_room(h.folder_in(out))
