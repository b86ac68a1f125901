"""An agent of the user's own as a command: a line of JSON a task, or user turn, on its stdin, lines on its stdout.

The process is started with the first task and ends with the cell. One that ends, hangs on a task past its deadline, or
says what is no line of the contract takes no further task: the next one gets a new process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path

from controller.endpoint import failures
from controller.endpoint.lines import MAX_LINE_BYTES
from controller.own_agent.wire import Given, Place, Said, read_said
from controller.ports import AGENT_HOP
from treni.errors import Code, TreniError

MAX_LOG_BYTES = 1024 * 1024
"""How much of a process's stderr is kept; the rest is read and dropped."""

QUEUE = 1024
GRACE_S = 2.0
"""How long a process has to end once its stdin is closed."""

_log = logging.getLogger(__name__)

# Has the kernel end the command with us, whatever becomes of us, and becomes it: the setting outlives exec.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


class AgentCommand:
    """The agent that `command`, run in `folder`, is; its stderr goes to `log_path`. Close it with `aclose`."""

    def __init__(self, command: Sequence[str], *, folder: str, log_path: Path) -> None:
        self._command = tuple(command)
        self._folder = folder or None
        self._log_path = log_path
        self._current: _Process | None = None
        self._leaving = set[asyncio.Task[None]]()
        self._starting = asyncio.Lock()

    async def run(self, given: Given) -> AsyncGenerator[Said, None]:
        """Writes the task's line; see `OwnAgent.run`."""
        process = await self._process()
        heard = process.listen(given.place)
        try:
            process.give(json.dumps(given.data).encode() + b"\n")
            while True:
                try:
                    async with asyncio.timeout(given.deadline.remaining_s()):
                        said = await heard.get()
                except TimeoutError:
                    process.stale = True  # what it is at now, the next task would wait for
                    raise failures.timed_out(hop=AGENT_HOP) from None
                if isinstance(said, TreniError):
                    raise said
                yield said
                if said.ends:
                    return
        finally:
            process.forget(given.place)
            self._let_go(process)

    async def aclose(self) -> None:
        """Ends every process of it."""
        if self._current is not None:
            self._current.stale = True
            self._let_go(self._current, at_close=True)
        await asyncio.gather(*self._leaving)

    async def _process(self) -> _Process:
        """A process that takes tasks."""
        async with self._starting:
            if self._current is None or self._current.stale:
                self._current = await _Process.start(self._command, self._folder, self._log_path)
            return self._current

    def _let_go(self, process: _Process, *, at_close: bool = False) -> None:
        """Ends a process that takes no further task once nobody waits for it."""
        if process.stale and not process.ending and (at_close or not process.busy):
            process.ending = True
            task = asyncio.create_task(process.end(grace_s=GRACE_S if at_close else 0.0))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


class _Process:
    """One process of the command."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self.stale = False
        self.ending = False
        self._process = process
        self._listeners: dict[Place, asyncio.Queue[Said | TreniError]] = {}
        self._past = set[Place]()
        self._tasks = (
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._keep_log(log_path)),
        )

    @classmethod
    async def start(cls, command: Sequence[str], folder: str | None, log_path: Path) -> _Process:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _LAUNCHER, str(os.getpid()), *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise _unstartable(str(error)) from None
        return cls(process, log_path)

    @property
    def busy(self) -> bool:
        """Whether somebody waits for what it says."""
        return bool(self._listeners)

    def listen(self, place: Place) -> asyncio.Queue[Said | TreniError]:
        """Where what it says of the task, or of its user turn, comes."""
        queue: asyncio.Queue[Said | TreniError] = asyncio.Queue(QUEUE)
        self._listeners[place] = queue
        return queue

    def forget(self, place: Place) -> None:
        """Heeds no more what it says of it."""
        queue = self._listeners.pop(place, None)
        while queue is not None and not queue.empty():
            queue.get_nowait()  # whoever waits to say more has room
        self._past.add(place)

    def give(self, line: bytes) -> None:
        """Writes a task; a process that is gone is told of by who listens."""
        assert self._process.stdin is not None
        if self._tasks[0].done():
            self._fail(self._died())
        else:
            self._process.stdin.write(line)

    async def end(self, *, grace_s: float) -> None:
        """Closes its stdin, and kills it with all that it started if that does not end it within `grace_s`."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                self._fail(
                    failures.malformed(
                        f"lines of at most {MAX_LINE_BYTES} bytes", "a longer one", hop=AGENT_HOP
                    )
                )
                return
            if not line:
                break
            if not line.strip():
                continue
            try:
                said = read_said(line)
            except TreniError as error:
                self._fail(error)
                return
            place = said.place
            if place.turn == 1 and place not in self._listeners and place not in self._past:
                place = place._replace(turn=None)  # who counts calls a single turn the first
            queue = self._listeners.get(place)
            if queue is not None:
                await queue.put(said)  # what floods waits for its reader, or is let go with it
            elif place not in self._past:
                known = "; ".join(map(str, self._listeners)) or "none"
                self._fail(
                    failures.malformed(
                        f'"id", and "turn" where there are several, to be those of a task in progress: {known}',
                        str(said.place),
                        hop=AGENT_HOP,
                    )
                )
                return
        await self._process.wait()
        self._fail(self._died())

    async def _keep_log(self, log_path: Path) -> None:
        assert self._process.stderr is not None
        kept = log_path.stat().st_size if log_path.exists() else 0
        with log_path.open("ab") as log:
            while part := await self._process.stderr.read(64 * 1024):
                log.write(part[: max(0, MAX_LOG_BYTES - kept)])
                log.flush()
                kept += len(part)

    def _fail(self, error: TreniError) -> None:
        """Tells whoever listens, and takes no further task."""
        self.stale = True
        for queue in self._listeners.values():
            # What it said before counts no more: nobody can tell which of it belongs to what it broke off.
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(_copy(error))

    def _died(self) -> TreniError:
        code = self._process.returncode
        ended = f"status {code}" if code is None or code >= 0 else signal.Signals(-code).name
        return TreniError(
            Code.UNAVAILABLE,
            "agent_died",
            expected="the agent's process to live until it is given no more tasks",
            got=f"its end, with {ended}",
            todo="see its log in the cell's folder",
            definite=False,
            hop=AGENT_HOP,
            foreign=True,
        )


def _copy(error: TreniError) -> TreniError:
    return TreniError(
        error.code,
        error.kind,
        expected=error.expected,
        got=error.got,
        todo=error.todo,
        definite=error.definite,
        hop=error.hop,
        foreign=error.foreign,
    )


def _unstartable(got: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "agent_unstartable",
        expected="a command that can be run",
        got=got,
        todo="correct --agent-command",
        hop=AGENT_HOP,
    )
