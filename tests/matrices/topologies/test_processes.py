"""How children are started and ended, with processes that behave and such that do not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from matrices.topologies.processes import start_child
from tests.limits import HANG_S
from treni import processes
from treni.errors import Code, TreniError

READY = "print('{}', flush=True)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


async def start(code: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )


def wait_unseen(pid: int) -> None:
    """Until it has ended, without collecting it and without a turn for the event loop."""
    with suppress(ChildProcessError):  # asyncio's own thread has collected it
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_a_child_that_ends_at_once_is_told_of_with_its_own_status(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(10):  # it takes turns whether its pipe or its end is noticed first
        with pytest.raises(TreniError, match="exit status 7; its log ends: oh") as caught:
            await start_child("thing", ["-c", "import os; os.write(2, b'oh'); os._exit(7)"], log_path=log)
        assert caught.value.code is Code.UNAVAILABLE
        log.unlink()


async def test_a_child_runs_until_it_is_stopped(tmp_path: Path) -> None:
    child = await start_child(
        "thing", ["-c", f"import signal; {READY}; signal.pause()"], log_path=tmp_path / "log"
    )
    assert (child.ready, child.death()) == ({}, None)
    await child.stop()
    assert child.death() == "thing was killed by SIGTERM"


async def test_stop_kills_who_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = await start(f"{DEAF}; {READY}; signal.pause()")
    polite = await start(f"import signal; {READY}; signal.pause()")
    for process, patience_s in ((deaf, 0.2), (polite, HANG_S)):
        assert process.stdout is not None
        await process.stdout.readline()
        monkeypatch.setattr(processes, "STOP_TIMEOUT_S", patience_s)
        await processes.stop(process)
    assert (deaf.returncode, polite.returncode) == (-signal.SIGKILL, -signal.SIGTERM)


@pytest.mark.parametrize("end", [processes.stop, processes.kill])
async def test_who_has_ended_keeps_its_status(
    end: Callable[[asyncio.subprocess.Process], Awaitable[None]],
) -> None:
    for _ in range(10):
        process = await start("raise SystemExit(3)")
        assert process.stdout is not None
        await process.stdout.read()
        wait_unseen(process.pid)
        await end(process)
        assert process.returncode == 3
        await end(process)
        assert process.returncode == 3
