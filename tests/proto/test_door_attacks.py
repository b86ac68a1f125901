"""Who does not keep to any protocol at a door: real processes, which go on answering whoever has a key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from tests.limits import HANG_S
from tests.proto.certificates import KEY, Authority, key_file
from tests.proto.roles import start
from treni.channels import open_channel
from treni.errors import TreniError, from_rpc_error
from treni.keys import Keys
from treni.limits import CONNECTIONS, HANDSHAKE_LIMIT_S
from treni.passes import NOTHING, Pass
from treni.v1 import tools_pb2, tools_pb2_grpc

POLL_S = 0.05

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@dataclass
class Attacked:
    """A server of tools as a process, and what lets its callers in."""

    address: str
    known: Pass
    process: psutil.Process

    @property
    def end(self) -> tuple[str, int]:
        """Its host and port."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    async def ask(self, given: Pass, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> None:
        """One call. Raises what `from_rpc_error` makes of its failure."""
        async with open_channel(self.address, given=given) as channel:
            await self.ask_by(channel, metadata)

    async def ask_by(
        self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str | bytes], ...] = ()
    ) -> None:
        """One call on a channel that is open."""
        stub = tools_pb2_grpc.ToolServiceStub(channel)
        try:
            await stub.List(tools_pb2.ListToolsRequest(), timeout=HANG_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, hop="tool") from None

    async def send(self, data: bytes, *, end: bool = True) -> bytes:
        """What it answers to these bytes on a connection of their own, as far as it says anything within a moment."""
        reader, writer = await asyncio.open_connection(*self.end)
        answer = b""
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(data)
            if end:
                writer.write_eof()
            async with asyncio.timeout(0.5 if end else 0.05):
                answer = await reader.read(1 << 16)
        writer.close()
        return answer

    def files(self) -> int:
        """How many connections it holds."""
        return len(self.process.net_connections(kind="tcp"))


@asynccontextmanager
async def attacked(tmp_path: Path, *, tls: bool) -> AsyncIterator[Attacked]:
    """A server behind a key, by TLS or not; in the end it is there, and said nothing of a bug."""
    keys, options, ca = key_file(tmp_path, KEY), [], None
    if tls:
        authority = Authority(tmp_path)
        pair, ca = authority.issue("127.0.0.1"), authority.ca
        options = ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]
    ledger = str(tmp_path / "ledger.sqlite")
    process = await start("tools_svc", "--ledger", ledger, "--key-file", str(keys), *options)
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[bytes] = []

    async def listen() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            said.append(line)

    listening = asyncio.create_task(listen())
    try:
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), HANG_S))
        made = Attacked(
            address=ready["address"],
            known=Pass(keys=Keys(file=keys), ca=ca),
            process=psutil.Process(process.pid),
        )
        yield made
        await made.ask(made.known)
        assert process.returncode is None
        process.terminate()
        assert await asyncio.wait_for(process.wait(), HANG_S) == 0
        await listening
        text = b"".join(said).decode(errors="replace")
        assert "Traceback" not in text, text
        assert KEY not in text
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def while_a_good_caller_is_answered(server: Attacked, attack: Callable[[], Awaitable[None]]) -> int:
    """Does the attack, and asks meanwhile on a connection of before and on new ones; how often that was answered."""
    answered = 0
    task = asyncio.ensure_future(attack())
    async with open_channel(server.address, given=server.known) as channel:
        while not task.done() or answered < 3:
            await server.ask_by(channel)
            await server.ask(server.known)
            answered += 2
    await task
    return answered


def client_hello() -> bytes:
    """The first bytes of a caller that speaks TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    speaker = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        speaker.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_bytes_that_keep_to_no_protocol_hurt_nobody(tmp_path: Path, tls: bool) -> None:
    draw, hello = random.Random(14), client_hello()
    request = b"POST /treni.v1.ToolService/List HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    broken = [
        *(draw.randbytes(draw.randrange(1, 4000)) for _ in range(20)),
        *(hello[: draw.randrange(1, len(hello))] for _ in range(20)),
        *(hello[:40] + draw.randbytes(400) for _ in range(5)),
        *(PREFACE[: draw.randrange(1, len(PREFACE))] for _ in range(5)),
        *(PREFACE + SETTINGS + draw.randbytes(draw.randrange(1, 500)) for _ in range(20)),
        *(PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" for _ in range(5)),
        *(hello, request, request + bytes(100_000), b"GET / HTTP/1.0\r\n\r\n", PREFACE * 50, b"", b"\x00"),
    ]

    async def attack() -> None:
        for start_at in range(0, len(broken), 10):
            several = broken[start_at : start_at + 10]
            await asyncio.gather(*(server.send(one, end=draw.random() < 0.5) for one in several))

    async with attacked(tmp_path, tls=tls) as server:
        assert await while_a_good_caller_is_answered(server, attack) > 3


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_callers_that_are_not_let_in_are_told_so_by_hundreds(tmp_path: Path, tls: bool) -> None:
    kinds: list[str] = []

    async def refused(given: Pass, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        try:
            await server.ask(given, metadata)
        except TreniError as error:
            kinds.append(error.kind)
        else:
            kinds.append("let in")

    async def attack() -> None:
        stranger = Pass(ca=server.known.ca)
        wrong: list[tuple[Pass, tuple[tuple[str, str | bytes], ...]]] = [
            (stranger, ()),
            (stranger, (("authorization", "Bearer wrong"),)),
            (stranger, (("authorization", "Bearer " + "x" * 4000),)),
            (stranger, (("authorization-bin", KEY.encode()),)),
            (stranger, (("authorization", f"Basic {KEY}"),)),
            (server.known, (("authorization", f"Bearer {KEY}"),)),
            (stranger, tuple((f"flood-{n}", "x" * 1000) for n in range(100))),
            (server.known, tuple((f"flood-{n}", "x" * 1000) for n in range(100))),
            (NOTHING if tls else Pass(ca=ca), ()),
        ]
        for _ in range(10):
            await asyncio.gather(*(refused(*one) for one in wrong))

    ca = Authority(tmp_path, "unused").ca
    async with attacked(tmp_path, tls=tls) as server:
        assert await while_a_good_caller_is_answered(server, attack) > 3
    assert len(kinds) == 90
    assert set(kinds) == {
        *("key_missing", "key_wrong", "key_ambiguous", "resource_exhausted"),
        "unavailable" if tls else "tls_not_spoken",
    }


async def test_a_flood_of_silent_connections_ends_at_a_limit_and_leaves_nothing(tmp_path: Path) -> None:
    """Who was connected before is answered all the while; those over the limit are closed as they come."""
    async with attacked(tmp_path, tls=False) as server:
        before = server.files()
        async with open_channel(server.address, given=server.known) as channel:
            await server.ask_by(channel)
            silent = []
            try:
                for _ in range(CONNECTIONS + 200):
                    silent.append(socket.create_connection(server.end, HANG_S))
                await server.ask_by(channel)
                await _until(lambda: sum(map(_closed, silent)) >= 200)
                assert 200 <= sum(_closed(one) for one in silent) <= 210
                assert server.files() <= before + CONNECTIONS + 1
                await server.ask_by(channel)
            finally:
                for one in silent:
                    one.close()
            await _until(lambda: server.files() <= before + 1)
            await server.ask(server.known)


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(int(HANG_S / POLL_S)):
        if holds():
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError("never")


def _closed(one: socket.socket) -> bool:
    """Whether the other end has closed the connection."""
    one.setblocking(False)
    try:
        while data := one.recv(1 << 16):
            assert data
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_who_takes_for_ever_to_say_hello_is_cut_off(tmp_path: Path, tls: bool) -> None:
    hello = client_hello() if tls else PREFACE
    async with attacked(tmp_path, tls=tls) as server:
        slow = [await asyncio.open_connection(*server.end) for _ in range(20)]
        began_s = time.monotonic()
        try:
            for byte in hello[:-1]:
                for _, writer in slow:
                    writer.write(bytes([byte]))
                await server.ask(server.known)
                if all(reader.at_eof() for reader, _ in slow):
                    break
                await asyncio.sleep(3 * HANDSHAKE_LIMIT_S / len(hello))
            for reader, _ in slow:
                with contextlib.suppress(OSError):
                    async with asyncio.timeout(HANG_S):
                        await reader.read()
                assert reader.at_eof() or reader.exception()
            assert time.monotonic() - began_s >= HANDSHAKE_LIMIT_S / 2
        finally:
            for _, writer in slow:
                writer.close()
