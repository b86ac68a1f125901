"""Who died as planned comes back, who died otherwise does not; with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from matrices.topologies import supervisor
from matrices.topologies.processes import Child, start_child
from matrices.topologies.supervisor import Return, Ward

SERVES = "import signal; print('{}', flush=True); signal.pause()"


class Log:
    """The crashes that were handed out."""

    def __init__(self, crashes: int = 0) -> None:
        self.crashes = crashes


async def _again() -> None:
    """Whatever has to be done at a process that was started once more: nothing."""


@asynccontextmanager
async def tended(
    tmp_path: Path, log: Log, code: str = SERVES
) -> AsyncIterator[tuple[Child, Ward, asyncio.Queue[Return], asyncio.Task[None]]]:
    """A role, its ward and the queue of its returns, while the ward tends it."""
    child = await start_child("tools", ["-c", code], log_path=tmp_path / "log")
    ward = Ward(child, lambda: log.crashes, _again)
    returns: asyncio.Queue[Return] = asyncio.Queue()
    tending = asyncio.create_task(ward.tend(returns.put_nowait))
    try:
        yield child, ward, returns, tending
    finally:
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)
        await child.stop()


async def test_a_planned_death_is_undone_each_time(tmp_path: Path) -> None:
    log = Log(crashes=3)
    async with tended(tmp_path, log) as (child, ward, returns, _):
        for _ in range(2):
            pid = child.pid
            assert not ward.excused
            log.crashes += 1
            os.kill(pid, signal.SIGKILL)
            back = await returns.get()
            assert (back.role, back.death) == ("tools", "tools was killed by SIGKILL")
            assert back.died_s < back.serving_s
            assert (back.pid, child.death()) == (child.pid, None)
            assert back.pid != pid
            await ward.settled()


async def test_two_crashes_at_once_share_a_death_and_excuse_no_other(tmp_path: Path) -> None:
    log = Log()
    async with tended(tmp_path, log) as (child, ward, returns, tending):
        log.crashes = 2
        os.kill(child.pid, signal.SIGKILL)
        await returns.get()
        os.kill(child.pid, signal.SIGKILL)
        await tending
        assert (ward.excused, child.death(), returns.empty()) == (False, "tools was killed by SIGKILL", True)


async def test_while_it_comes_back_it_is_excused(tmp_path: Path) -> None:
    log = Log()
    async with tended(tmp_path, log) as (child, ward, _, tending):
        log.crashes = 1
        os.kill(child.pid, signal.SIGKILL)
        await child.process.wait()
        assert ward.excused
        tending.cancel()  # wherever it is


async def test_a_start_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RETRY_S", 0.0)
    marks = tmp_path / "marks"
    marks.write_text("")
    # Serves, then fails twice, then serves.
    code = (
        f"import pathlib, sys; marks = pathlib.Path({str(marks)!r}); seen = marks.read_text(); "
        f"marks.write_text(seen + 'x'); seen in ('x', 'xx') and sys.exit('taken')\n{SERVES}"
    )
    log = Log()
    async with tended(tmp_path, log, code) as (child, _, returns, _tending):
        log.crashes = 1
        os.kill(child.pid, signal.SIGKILL)
        await returns.get()
        assert (marks.read_text(), child.death()) == ("xxxx", None)


async def test_one_that_does_not_come_back_stays_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    code = (
        f"import pathlib, sys; marks = pathlib.Path({str(marks)!r}); marks.exists() and sys.exit(3); "
        f"marks.touch()\n{SERVES}"
    )
    log = Log()
    async with tended(tmp_path, log, code) as (child, ward, returns, tending):
        monkeypatch.setattr(supervisor, "RESTART_LIMIT_S", 1.0)
        log.crashes = 1
        os.kill(child.pid, signal.SIGKILL)
        await tending
        await ward.settled()
        assert (ward.excused, child.death(), returns.empty()) == (False, "tools was killed by SIGKILL", True)


async def test_what_is_restarted_with_no_python_to_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    async with tended(tmp_path, log) as (child, _, _returns, tending):
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        log.crashes = 1
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(FileNotFoundError):
            await tending
