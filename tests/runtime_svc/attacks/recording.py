"""The bytes of a good gRPC client, for who breaks off, damages or dribbles them, and what a server says to such."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

import grpc
from google.protobuf.message import Message

from tests.limits import HANG_S
from treni.channels import open_channel
from treni.passes import Pass

_SETTINGS, _GOAWAY, _HEADERS, _RESET = 4, 7, 1, 3
_ACK, _END_STREAM = 1, 1
_HEAD_BYTES = 9


async def recorded(method: str, request: Message, given: Pass) -> bytes:
    """All that a client sends to call the method with that request, which is not empty, on a connection of its own."""
    data = bytearray()
    whole = request.SerializeToString()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_frame(_SETTINGS) + _frame(_SETTINGS, flags=_ACK))
        while piece := await reader.read(1 << 16):
            data.extend(piece)
            if whole in data:
                writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with open_channel(f"{host}:{port}", given=given) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        with suppress(grpc.aio.AioRpcError):  # nobody answers
            await call(whole, timeout=HANG_S)
    server.close()
    assert whole in data, "gRPC's client did not get to its request"
    return bytes(data)


def heard(data: bytes) -> str:
    """What a server's bytes say to such: the end of a call, of a stream or of the connection, or nothing."""
    said = "nothing"
    while len(data) >= _HEAD_BYTES:
        length, kind, flags = struct.unpack(">I", b"\0" + data[:3])[0], data[3], data[4]
        if kind == _HEADERS and flags & _END_STREAM:
            return "status"
        if kind == _RESET:
            said = "stream reset"
        if kind == _GOAWAY:
            said = "goaway"
        data = data[_HEAD_BYTES + length :]
    return said


def _frame(kind: int, *, flags: int = 0) -> bytes:
    return bytes(3) + bytes([kind, flags]) + bytes(4)
