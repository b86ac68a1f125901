"""An echo server on one host, struck by lines on stdin: `drop`, `lose`, `delay`; `heal` ends it, `die` kills it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack

from chaos.hosts.guard import Guard
from chaos.hosts.links import End, Met, delayed, dropped


async def main(address: str) -> None:
    """Serves and is struck until stdin ends; prints a line for each done."""
    guard, met = await Guard.start(), Met()
    server = await asyncio.start_server(_echo, *_of(address))
    ends = [End.of(address)]
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    print("serving", flush=True)
    stack = AsyncExitStack()
    while line := (await told.readline()).decode().strip():
        match line:
            case "drop":
                harm = dropped(ends, requests=1.0, answers=1.0, guard=guard, met=met)
                await stack.enter_async_context(harm)
            case "deafen":
                harm = dropped(ends, requests=1.0, answers=0.0, guard=guard, met=met)
                await stack.enter_async_context(harm)
            case "lose":
                harm = dropped(ends, requests=0.3, answers=0.3, guard=guard, met=met)
                await stack.enter_async_context(harm)
            case "delay":
                harm = delayed(ends, delay_s=0.3, jitter_s=0.1, guard=guard, met=met)
                await stack.enter_async_context(harm)
            case "heal":
                await stack.aclose()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
        print(met.packets, flush=True)
    server.close()
    await guard.close()


def _of(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
