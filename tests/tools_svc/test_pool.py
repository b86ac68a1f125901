from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from tests.limits import HANG_S
from tools_svc.pool import BoundedPool
from tools_svc.protocol import Caller
from treni.errors import Code, TreniError


class Gate:
    """Work that tells when it began and ends when it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, caller: Caller) -> str:
        self.began.set()
        assert self.let_go.wait(HANG_S)
        return "done"


@pytest.fixture
async def pool() -> AsyncIterator[BoundedPool]:
    pool = BoundedPool(workers=1, queue=1)
    yield pool
    await pool.close()


async def occupy(pool: BoundedPool) -> tuple[Gate, asyncio.Task[str]]:
    gate = Gate()
    running = asyncio.create_task(pool.run(gate, deadline_s=None))
    assert await asyncio.to_thread(gate.began.wait, HANG_S)
    return gate, running


async def submitted(pool: BoundedPool, work: Gate, deadline_s: float | None) -> asyncio.Task[str]:
    task = asyncio.create_task(pool.run(work, deadline_s=deadline_s))
    await asyncio.sleep(0)  # let the task reach the queue
    return task


async def test_what_does_not_fit_is_refused(pool: BoundedPool) -> None:
    gate, running = await occupy(pool)
    second = Gate()
    second.let_go.set()
    waiting = await submitted(pool, second, None)
    third = Gate()
    with pytest.raises(TreniError) as caught:
        await pool.run(third, deadline_s=None)
    assert (caught.value.code, caught.value.kind) == (Code.RESOURCE_EXHAUSTED, "tool_queue_full")
    assert caught.value.definite
    gate.let_go.set()
    assert [await running, await waiting] == ["done", "done"]
    assert not third.began.is_set()


async def test_time_that_is_up_is_refused_without_waiting(pool: BoundedPool) -> None:
    gate, running = await occupy(pool)
    work = Gate()
    for deadline_s in (0.0, -1.0):
        with pytest.raises(TreniError) as caught:
            await pool.run(work, deadline_s=deadline_s)
        assert (caught.value.code, caught.value.definite) == (Code.DEADLINE_EXCEEDED, True)
    assert not running.done()
    gate.let_go.set()
    assert await running == "done"
    assert not work.began.is_set()


async def test_time_that_runs_out_in_the_queue_never_runs(pool: BoundedPool) -> None:
    gate, running = await occupy(pool)
    late = Gate()
    late.let_go.set()
    waiting = await submitted(pool, late, 1e-9)
    gate.let_go.set()
    assert await running == "done"
    with pytest.raises(TreniError) as caught:
        await waiting
    assert (caught.value.code, caught.value.definite) == (Code.DEADLINE_EXCEEDED, True)
    assert not late.began.is_set()


async def test_a_cancelled_caller_takes_its_waiting_work_along(pool: BoundedPool) -> None:
    gate, running = await occupy(pool)
    left = Gate()
    left.let_go.set()
    waiting = await submitted(pool, left, None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.let_go.set()
    assert await running == "done"
    after = Gate()
    after.let_go.set()
    assert await pool.run(after, deadline_s=None) == "done"
    assert not left.began.is_set()


async def test_every_slot_comes_back(pool: BoundedPool) -> None:
    def broken(caller: Caller) -> None:
        raise OSError("broken")

    for _ in range(10):
        with pytest.raises(OSError, match="broken"):
            await pool.run(broken, deadline_s=HANG_S)
    gate, running = await occupy(pool)
    running.cancel()
    gate.let_go.set()
    await asyncio.gather(running, return_exceptions=True)
    gates = [Gate() for _ in range(2)]
    for each in gates:
        each.let_go.set()
    assert [await pool.run(each, deadline_s=HANG_S) for each in gates] == ["done", "done"]
