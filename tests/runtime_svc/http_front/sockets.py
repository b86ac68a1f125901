"""A connection that says whatever it likes."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.limits import HANG_S

JSON = "content-type: application/json"


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes to a server and from it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *data: bytes) -> None:
        """Sends the bytes."""
        self.writer.writelines(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the next answer."""
        async with asyncio.timeout(HANG_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def answer(self) -> tuple[int, Any]:
        """The status and the JSON of the next answer."""
        status, headers = await self.head()
        async with asyncio.timeout(HANG_S):
            body = await self.reader.readexactly(int(headers["content-length"]))
        return status, json.loads(body)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(HANG_S):
            return await self.reader.read()


@asynccontextmanager
async def wire(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A connection to the server of that address; it is cut when the block ends."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def post(body: bytes | dict[str, Any], *headers: str, path: str = "/v1/chat/completions") -> bytes:
    """A whole request; a header of the length is added where none of `headers` says it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = (
        ()
        if any("length" in line or "chunked" in line for line in headers)
        else (f"content-length: {len(data)}",)
    )
    head = "\r\n".join([f"POST {path} HTTP/1.1", "host: here", JSON, *headers, *length])
    return head.encode() + b"\r\n\r\n" + data
