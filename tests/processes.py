"""What tests ask of processes that others started."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

from tests.limits import HANG_S


def is_running(pid: int) -> bool:
    """Whether the process runs: one that has ended does not, nor a zombie, nor one that ends while it is looked at."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def wait_gone(pids: Iterable[int]) -> None:
    """Until none of the processes runs; fails when one still does after `HANG_S`."""
    deadline_s = time.monotonic() + HANG_S
    running = list(pids)
    while running := [pid for pid in running if is_running(pid)]:
        assert time.monotonic() < deadline_s, f"processes {running} still run"
        time.sleep(0.01)
