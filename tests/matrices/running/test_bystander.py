"""What a bystander notes of servers that stop, freeze and come back; with real ones."""

from __future__ import annotations

import asyncio
import time

import pytest

from matrices.running import bystander
from matrices.running.bystander import Bystander, Gap
from tests.limits import HANG_S
from treni import serving


async def serve(port: int = 0) -> serving.RunningServer:
    return await serving.start([], port=port)


def unseen(gap: Gap) -> None:
    pytest.fail(f"not to be noted: {gap}")


def never(_role: str) -> bool:
    return False


async def until_lost(watcher: Bystander, role: str, probes: int) -> None:
    watch = watcher._watches[role]
    while watch.lost < probes:
        await watch.progress()


async def test_an_outage_is_noted_whole_before_the_role_counts_as_answering() -> None:
    server, steady = await serve(), await serve()
    addresses = {"tools": server.address, "runtime": steady.address}
    gaps: list[Gap] = []
    async with Bystander.watch(addresses, gaps.append) as watcher:
        assert await watcher.all_answer(limit_s=HANG_S, gone=never) is None
        assert gaps == []
        await server.stop(grace_s=0)
        down_s = time.monotonic()
        waiting = asyncio.create_task(watcher.all_answer(limit_s=HANG_S, gone=never))
        await until_lost(watcher, "tools", 2)
        assert not waiting.done()
        up_s = time.monotonic()
        back = await serve(port=int(server.address.rsplit(":", 1)[1]))
        assert await waiting is None
        (gap,) = gaps
    await back.stop(grace_s=0)
    await steady.stop(grace_s=0)
    assert gap.role == "tools"
    assert gap.probes_lost >= 2
    assert gap.start_s < down_s < up_s < gap.end_s


async def test_one_that_accepts_and_does_not_answer_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bystander, "PROBE_TIMEOUT_S", 0.05)

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Bystander.watch({"tools": address}, unseen) as watcher:
            assert await watcher.all_answer(limit_s=0.5, gone=never) == "tools"


async def test_one_that_is_gone_is_not_waited_for() -> None:
    server = await serve()
    await server.stop(grace_s=0)
    async with Bystander.watch({"tools": server.address}, unseen) as watcher:
        assert await watcher.all_answer(limit_s=HANG_S, gone=lambda role: role == "tools") is None


async def test_a_history_that_takes_no_more_ends_the_watch() -> None:
    server = await serve()
    port = int(server.address.rsplit(":", 1)[1])

    def full(_gap: Gap) -> None:
        raise OSError("no space")

    async def watch() -> None:
        async with Bystander.watch({"tools": server.address}, full) as watcher:
            await watcher.all_answer(limit_s=HANG_S, gone=never)
            await server.stop(grace_s=0)
            await until_lost(watcher, "tools", 1)
            back = await serve(port)
            try:
                await watcher.all_answer(limit_s=HANG_S, gone=never)
            finally:
                await back.stop(grace_s=0)

    with pytest.raises(ExceptionGroup) as caught:
        await watch()
    assert caught.group_contains(OSError)
