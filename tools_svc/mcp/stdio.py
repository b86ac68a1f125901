"""The transport to an MCP server that is a process: a JSON message a line, and never more of it than was agreed.

The SDK's own transport takes lines of any length into memory, logs a traceback for each that is no message, and leaves
grandchildren behind; its protocol for transports is the seam that this one fits.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse, jsonrpc_message_adapter

from tools_svc.mcp.limits import MAX_MESSAGE_BYTES, MAX_UNASKED_BYTES

GUARD = Path(__file__).with_name("guard.py")

END_S = 10.0
"""The limit for a guard that hangs: it takes two seconds to end a server that heeds nothing."""


@asynccontextmanager
async def stdio_transport(command: Sequence[str], said: Callable[[str], None]) -> AsyncIterator[Any]:
    """The server's process while the block runs, as the pair of streams that `mcp.Client` takes.

    `said` is told why the connection ended, where the server ended it. Raises OSError where no process can be made.
    """
    lifeline, held = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(GUARD), str(lifeline), *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(lifeline,),
            limit=MAX_MESSAGE_BYTES,
            start_new_session=True,  # a Ctrl-C at the terminal is the role's to handle
        )
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(lifeline)
    incoming, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read(process, incoming, said))
    writing = asyncio.create_task(_write(process, outgoing, incoming))
    try:
        yield read_stream, write_stream
    finally:
        for stream in (incoming, read_stream, write_stream, outgoing):
            stream.close()
        os.close(held)
        # In a task of its own, so that whoever is cancelled here leaves no process behind all the same.
        ending = asyncio.create_task(_ended(process, reading, writing))
        await asyncio.shield(ending)


async def _ended(process: asyncio.subprocess.Process, *tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await _drain(process)
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    while await process.stdout.read(65536):
        pass


async def _read(process: asyncio.subprocess.Process, incoming: Any, said: Callable[[str], None]) -> None:
    """Hands on what the server says, and closes `incoming` when it says nothing more or too much."""
    unasked = 0
    try:
        while True:
            line = await _line(process, said)
            if line is None:
                return
            message = _parsed(line)
            if isinstance(message, JSONRPCResponse | JSONRPCError):
                unasked = 0
            else:
                unasked += len(line) + 64  # an empty line is not for nothing either
                if unasked > MAX_UNASKED_BYTES:
                    said(f"over {MAX_UNASKED_BYTES} bytes that answer nothing")
                    return
            if message is None or _is_idle(message):
                continue
            await incoming.send(SessionMessage(message))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # nobody listens any more
    finally:
        incoming.close()


async def _line(process: asyncio.subprocess.Process, said: Callable[[str], None]) -> bytes | None:
    assert process.stdout is not None
    try:
        return await process.stdout.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        said("the end of its process")
    except asyncio.LimitOverrunError:
        said(f"a message of over {MAX_MESSAGE_BYTES} bytes")
    except OSError as error:
        said(str(error))
    return None


def _parsed(line: bytes) -> Any:
    """The message in the line; None for what is none: programs print to stdout what they should not."""
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None


def _is_idle(message: Any) -> bool:
    """Whether nobody here wants to hear it: the SDK makes a task of each notification."""
    return isinstance(message, JSONRPCNotification) and message.method != "notifications/tools/list_changed"


async def _write(process: asyncio.subprocess.Process, outgoing: Any, incoming: Any) -> None:
    assert process.stdin is not None
    try:
        async for one in outgoing:
            text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()
    except OSError:
        incoming.close()  # so that the session learns of it
