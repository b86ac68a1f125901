"""TCP servers of the tests' own: one that passes bytes on until told to be silent, and one that nobody may find."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """Passes bytes between its clients and one address, both ways; connections made silent swallow them instead."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self.connections = 0
        self._host, _, self._port = target.rpartition(":")
        self._silent: list[asyncio.Event] = []

    def silence(self) -> None:
        """From now on every open connection takes bytes and passes none; new ones work."""
        for event in self._silent:
            event.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        silent = asyncio.Event()
        self._silent.append(silent)
        to_reader, to_writer = await asyncio.open_connection(self._host, int(self._port))
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, to_writer, silent))
                group.create_task(_pass_on(to_reader, writer, silent))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
    while data := await reader.read(65536):
        if not silent.is_set():
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[Relay]:
    """A relay to `target` ("host:port") while the block runs."""
    made = Relay(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def trap() -> AsyncIterator[tuple[str, list[bytes]]]:
    """The address of a server to which nobody should come, and what those who came said first."""
    came: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(200))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    finally:
        server.close()
