"""Client processes: what they tell is what a client of the harness's own would have said."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from matrices.running.client import AgentClient, Invocation, Reply
from matrices.running.worker import Told
from matrices.running.workers import AgentAtWorker, workers
from tests.processes import wait_gone
from treni.errors import Code, TreniError
from treni.v1 import agent_pb2

ERROR = TreniError(
    Code.DEADLINE_EXCEEDED,
    "deadline_exceeded",
    expected="an answer",
    got="half a pair, \ud800",
    todo="wait",
    definite=True,
    hop="tool",
    fault_id="f:1",
    foreign=True,
)


@pytest.mark.parametrize("error", [None, ERROR])
def test_a_line_has_all_of_an_invocation(error: TreniError | None) -> None:
    done = Invocation(
        outcome="ok" if error is None else "fail",
        latency_s=0.1 + 0.2,
        ttft_s=1e-300,
        replies=(Reply(text="\u2028 \N{SNOWMAN}", latency_s=0.1), Reply(text="", latency_s=0.1 + 0.2)),
        error=error,
        record={"pid": 7, "loop_s": 1.0, "attempts": [{"kind": ""}]},
    )
    again = Told.model_validate_json(Told.of(3, done).model_dump_json()).invocation()
    for name in ("outcome", "latency_s", "ttft_s", "replies", "record"):
        assert getattr(again, name) == getattr(done, name)
    if error is not None:
        assert again.error is not None
        for name in ("code", "kind", "expected", "todo", "definite", "hop", "fault_id", "foreign"):
            assert getattr(again.error, name) == getattr(error, name)
        assert again.error.got == "half a pair, \\ud800"


REQUEST = agent_pb2.RunRequest(run_id="r", task_id="t", prompt="p")


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def test_what_a_worker_meets_is_told_as_the_harness_would_have_met_it(nobody: str) -> None:
    client = AgentClient(nobody)
    mine = await client.run(REQUEST, timeout_s=60.0)
    await client.close()
    async with workers(2) as helping:
        pids = [worker.pid for worker in helping]
        assert len({os.getpid(), *pids}) == 3
        theirs = [await AgentAtWorker(one, nobody, fence="").run(REQUEST, timeout_s=60.0) for one in helping]
    assert mine.error is not None
    for told in theirs:
        assert told.error is not None
        assert (told.outcome, told.error.code, told.error.kind) == (
            mine.outcome,
            mine.error.code,
            mine.error.kind,
        )
    wait_gone(pids)


async def test_what_a_worker_had_begun_is_lost_with_it_and_is_no_outcome(nobody: str) -> None:
    async with workers(2) as helping:
        agent = AgentAtWorker(helping[0], nobody, fence="")
        os.kill(helping[0].pid, signal.SIGSTOP)
        begun = asyncio.create_task(agent.run(REQUEST, timeout_s=60.0))
        await asyncio.sleep(0)
        os.kill(helping[0].pid, signal.SIGKILL)
        with pytest.raises(TreniError) as raised:
            await begun
        assert (raised.value.code, raised.value.kind) == (Code.UNAVAILABLE, "worker_lost")
        with pytest.raises(TreniError, match="client process"):
            await agent.run(REQUEST, timeout_s=60.0)
        other = await AgentAtWorker(helping[1], nobody, fence="").run(REQUEST, timeout_s=60.0)
        assert other.error is not None


async def test_one_worker_is_the_harness_itself() -> None:
    async with workers(1) as helping:
        assert helping == ()
