"""A stdio MCP server's keeper: runs the command, and leaves nothing of it behind, however its own starter ends.

A program for itself, which imports nothing of ours and so starts in 20 ms: `python -I -S guard.py LIFELINE COMMAND...`.
LIFELINE is the reading end of a pipe whose other end only the starter holds: when that is gone, by a kill -9 too, the
pipe ends. On Linux what the command started and forgot comes back to this process (a subreaper) and is killed with it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

GRACE_S = 1.0
"""How long a server may take to end by itself once its stdin has ended, and again after a SIGTERM."""

MAX_STDERR_BYTES = 1 << 20
"""How much of the server's stderr is passed on; what is more is thrown away, so that no log grows without end."""

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Runs the command to its end, or to that of the lifeline; the status that the command ended with."""
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever wants an end closes the lifeline
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    died, told = os.pipe()
    for end in (died, told):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(told)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        child = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    # What the server reads and writes is between it and the starter, who has to see when the server closes it.
    os.close(0)
    os.close(1)
    try:
        _wait(child, lifeline, died)
        _end(child)
    finally:
        _kill_all(child.pid)
    return child.returncode if child.returncode is not None and child.returncode >= 0 else 128


def _wait(child: subprocess.Popen[bytes], lifeline: int, died: int) -> None:
    """Until the child has ended, or nobody holds the lifeline."""
    assert child.stderr is not None
    stderr, left = child.stderr.fileno(), MAX_STDERR_BYTES
    watched = [lifeline, died, stderr]
    while child.poll() is None:
        ready, _, _ = select.select(watched, [], [])
        if stderr in ready:
            data = os.read(stderr, 65536)
            if not data:
                watched.remove(stderr)
            _pass_on(data[:left])
            left -= min(left, len(data))
        if died in ready:
            os.read(died, 512)
        if lifeline in ready and not os.read(lifeline, 512):
            return


def _pass_on(data: bytes) -> None:
    with suppress(OSError):  # nobody may read the log
        os.write(2, data)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Waits for the child, whose stdin ended with the lifeline, then asks it to end."""
    for wanted in (0, signal.SIGTERM):
        if wanted:
            _signal_group(child.pid, wanted)
        until_s = time.monotonic() + GRACE_S
        while child.poll() is None and time.monotonic() < until_s:
            time.sleep(0.01)


def _kill_all(child: int) -> None:
    """Kills the child's process group, and on Linux every descendant of this process, until there is none."""
    _signal_group(child, signal.SIGKILL)
    while found := _descendants():
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.005)


def _signal_group(child: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, number)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _descendants() -> list[int]:
    """The processes below this one that still run; those of /proc, and so none where there is no such folder."""
    parents: dict[int, int] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for name in names:
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            parents[int(name)] = int(parent)
    mine, found = {os.getpid()}, list[int]()
    while more := [pid for pid, parent in parents.items() if parent in mine and pid not in mine]:
        mine.update(more)
        found += more
    return found


if __name__ == "__main__":
    sys.exit(main())
