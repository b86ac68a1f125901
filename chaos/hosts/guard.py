"""What undoes the harm of a process that dies before it could: a process of its own that waits for that."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from contextlib import suppress

_SCRIPT = 'left=$(cat); eval "$left"'
"""Takes commands until whoever writes them is gone, however that came about, and runs them then."""


class Guard:
    """Runs the commands that it was given once this process has ended. Use `Guard.start`, `close` in the end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Guard:
        """A guard with nothing to do yet."""
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            _SCRIPT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # What kills us by our group, such as Ctrl-C, must not kill it.
            start_new_session=True,
        )
        return cls(process)

    async def undo_with(self, command: Sequence[str]) -> None:
        """Has the command run in the end; it must do nothing where there is nothing to undo any more."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{shlex.join(command)}\n".encode())
        await self._process.stdin.drain()

    async def close(self) -> None:
        """Has the commands run now; they do nothing where all was undone."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.close()
            await self._process.stdin.wait_closed()
        await self._process.wait()
