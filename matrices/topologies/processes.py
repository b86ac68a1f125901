"""Child processes of a campaign: started with a config, ready when they say so, gone when we are.

A child prints one line of JSON on stdout when it serves; its stderr goes to a log file. Children ask the kernel
to kill them when their parent dies (see `die_with_parent`), so that a `kill -9` of the harness leaves nothing
behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treni import processes
from treni.errors import Code, TreniError

START_TIMEOUT_S = 600.0
"""The limit for a child that hangs: one that ends is noticed at once, and a large model may take minutes to load."""
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Makes the kernel kill this process when its parent does not live any more; Linux only, else no effect.

    `parent_pid` is the parent that started us: if it is gone already, exits at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(1)


@dataclass(kw_only=True)
class Child:
    """A service process: the one that runs, or ran last."""

    name: str
    arguments: tuple[str, ...]
    process: asyncio.subprocess.Process
    ready: dict[str, Any]
    log_path: Path
    env: dict[str, str] | None = None

    @property
    def address(self) -> str:
        """Where it serves, as it said when it was ready."""
        return str(self.ready["address"])

    @property
    def pid(self) -> int:
        """The id of the child's process."""
        return self.process.pid

    def death(self) -> str | None:
        """How it ended, such as "controller was killed by SIGKILL"; None while it runs."""
        code = self.process.returncode
        if code is None:
            return None
        if code < 0:
            return f"{self.name} was killed by {signal.Signals(-code).name}"
        return f"{self.name} exited with status {code}"

    async def restart(self) -> None:
        """Starts it again, after it ended, with the same arguments. Raises as `start_child` does."""
        self.process, self.ready = await _start(self.name, self.arguments, self.log_path, self.env)

    async def stop(self) -> None:
        """Asks it to end, and kills it if it does not soon."""
        await processes.stop(self.process)


async def start_child(
    name: str, arguments: Sequence[str], *, log_path: Path, env: dict[str, str] | None = None
) -> Child:
    """Starts `python ARGUMENTS` and waits for its line of JSON.

    Raises UNAVAILABLE with the end of its log if it ends or stays silent for `START_TIMEOUT_S` instead.
    """
    process, ready = await _start(name, arguments, log_path, env)
    return Child(
        name=name, arguments=tuple(arguments), process=process, ready=ready, log_path=log_path, env=env
    )


async def _start(
    name: str, arguments: Sequence[str], log_path: Path, env: dict[str, str] | None
) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=os.environ | (env or {}),
            # A Ctrl-C at the terminal is the harness's to handle: it stops its children in order.
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await process.stdout.readline()
        ready = json.loads(line)
    except (TimeoutError, json.JSONDecodeError, asyncio.CancelledError) as error:
        await processes.kill(process)
        if isinstance(error, asyncio.CancelledError):
            raise
        tail = log_path.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise TreniError(
            Code.UNAVAILABLE,
            "process_not_ready",
            expected=f"{name} to say that it serves within {START_TIMEOUT_S:.0f} s",
            got=f"exit status {process.returncode}; its log ends: {tail.strip() or '(empty)'}",
            todo=f"see {log_path}",
        ) from None
    return process, ready
