"""The transport to an MCP server at a URL: the SDK's, over a client that takes no more than was agreed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from tools_svc.mcp.limits import CALL_S, MAX_MESSAGE_BYTES, MAX_UNASKED_BYTES
from treni.tracing import tracer

CONNECT_S = 10.0
END_S = 2.0
_TIMEOUT = httpx2.Timeout(CALL_S, connect=CONNECT_S)


@asynccontextmanager
async def http_transport(url: str, said: Callable[..., None]) -> AsyncIterator[Any]:
    """The connection to the URL while the block runs, as the pair of streams that `mcp.Client` takes.

    `said` is told why it ended, where the server or the way to it did, and with `unsent=True` where what was to be
    sent last certainly was not. The environment's proxies are not used.
    """
    async with (
        httpx2.AsyncClient(
            transport=_Bounded(said),
            timeout=_TIMEOUT,
            trust_env=False,
            headers={"accept-encoding": "identity"},
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as streams,
    ):
        yield streams


class _Bounded(httpx2.AsyncHTTPTransport):
    """HTTP whose answers end in an error where they are longer than agreed."""

    def __init__(self, said: Callable[..., None]) -> None:
        super().__init__()
        self._said = said

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, its body bounded as it is read."""
        if request.method == "DELETE":  # the end of a session, which a server that hangs must not hold up
            request.extensions = {**request.extensions, "timeout": httpx2.Timeout(END_S).as_dict()}
        if (by := tracer()) is not None:
            request.headers.update(by.headers())
        try:
            response = await super().handle_async_request(request)
        except httpx2.TransportError as error:
            if request.method == "POST":
                never = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                self._said(f"{type(error).__name__}: {error}", unsent=never)
            raise
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            await response.aclose()
            self._said(f"an answer in the encoding {encoding[:40]!r}, which was not asked for")
            raise httpx2.DecodingError("an encoding that was not asked for", request=request)
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_BoundedStream(
                response.stream, MAX_UNASKED_BYTES if streamed else MAX_MESSAGE_BYTES, self._said
            ),
            extensions=response.extensions,
        )


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, most: int, said: Callable[[str], None]) -> None:
        self._stream = stream
        self._most = most
        self._said = said

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most
        async for part in self._stream:
            left -= len(part)
            if left < 0:
                self._said(f"an answer of over {self._most} bytes")
                raise httpx2.ReadError(f"an answer of over {self._most} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
