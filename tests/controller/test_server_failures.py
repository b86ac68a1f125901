"""What a client of the external arm is told when a run can't be had or fails: each end has its code and its kind."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

import grpc
import pytest

from controller.ports import AttemptKey
from controller.remote import open_channel
from tests.controller.doubles import TaskFields, failure, spec, task
from tests.controller.servers import (
    PATIENT,
    HangingTools,
    Inference,
    calculates,
    chats,
    controller,
    external,
    inference,
    real_tools,
    run_task,
    serving,
)
from tests.limits import HANG_S, longer_and_longer
from treni.errors import Code
from treni.v1 import agent_pb2_grpc, common_pb2, tools_pb2_grpc


async def test_a_tool_that_never_answers_is_given_up_and_said_so() -> None:
    tools = HangingTools([spec("calculator")])
    policy = replace(PATIENT, tool_timeout_s=0.05, backoff_initial_s=0.01)
    async with (
        inference(Inference(calculates)) as model_address,
        serving(
            lambda server: tools_pb2_grpc.add_ToolServiceServicer_to_server(tools, server)
        ) as tools_address,
        controller(model_address, tools_address, policy) as address,
    ):
        ran = await run_task(address, task())
    assert len(tools.time_remaining_s) <= 2  # on a busy machine not every attempt gets there in its time
    assert all(remaining_s < 0.06 for remaining_s in tools.time_remaining_s)
    assert ran.error is not None
    assert (ran.error.kind, ran.error.code, ran.error.hop, ran.error.definite) == (
        "tool_hop_failed",
        Code.DEADLINE_EXCEEDED,
        "tool",
        False,
    )
    attempts = [a for a in ran.record.attempts if a.hop == "tool"]
    assert [(a.outcome, a.code) for a in attempts] == [("unknown", "DEADLINE_EXCEEDED")] * 2
    assert all(a.duration_s >= 0.045 for a in attempts)
    assert ran.record.backoff_s > 0


async def test_a_run_ends_before_its_caller_s_deadline_so_that_the_record_arrives() -> None:
    tools = HangingTools([spec("calculator")])
    async with (
        inference(Inference(calculates)) as model_address,
        serving(
            lambda server: tools_pb2_grpc.add_ToolServiceServicer_to_server(tools, server)
        ) as tools_address,
        controller(model_address, tools_address, PATIENT) as address,
    ):
        # gRPC sends 1.001 s as 1.01 s: the record is in time only because the run allows for that.
        for timeout_s in longer_and_longer(1.001):
            tools.time_remaining_s.clear()
            ran = await run_task(address, task(run_id=f"in-{timeout_s}"), timeout_s=timeout_s)
            if ran.kinds[-1:] == ["record"] and tools.time_remaining_s:
                break
    assert ran.error is not None
    assert (ran.error.kind, ran.error.code, ran.error.hop) == (
        "deadline_exceeded",
        Code.DEADLINE_EXCEEDED,
        "tool",
    )
    assert ran.record.total_s < timeout_s
    assert tools.time_remaining_s[-1] < timeout_s


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_every_status_of_the_model_hop_is_a_typed_end(tmp_path: Path, code: Code) -> None:
    async with external(tmp_path, lambda request: [failure(code)], policy=replace(PATIENT, retries=0)) as (
        address,
        _,
    ):
        ran = await run_task(address, task())
    assert ran.error is not None
    assert (ran.error.kind, ran.error.code, ran.error.hop) == ("model_hop_failed", code, "model")
    assert [(a.code, a.kind) for a in ran.record.attempts] == [(code.name, "planted")]


async def test_a_dead_tool_host_ends_the_run_and_a_dead_model_host_too(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        model = Inference(calculates)
        model_address = await stack.enter_async_context(inference(model))
        async with AsyncExitStack() as tools_stack:
            tools_address = await tools_stack.enter_async_context(real_tools(tmp_path))
            address = await stack.enter_async_context(controller(model_address, tools_address, PATIENT))
            assert (await run_task(address, task(run_id="alive"))).error is None
        ran = await run_task(address, task(run_id="dead"))
        assert ran.error is not None
        assert (ran.error.kind, ran.error.code) == ("tool_hop_failed", Code.UNAVAILABLE)
        assert [a.code for a in ran.record.attempts if a.hop == "tool"] == ["UNAVAILABLE", "UNAVAILABLE"]
    async with controller("127.0.0.1:9", "127.0.0.1:9", PATIENT) as address:
        ran = await run_task(address, task())
        assert ran.error is not None
        assert ran.error.code is Code.UNAVAILABLE
        assert ran.error.hop == "tool"


BAD_REQUESTS: dict[str, TaskFields] = {
    "run_id_invalid": {"run_id": ""},
    "task_id_invalid": {"task_id": "t" * 257},
    "prompt_empty": {"prompt": " \n"},
    "prompt_too_long": {"prompt": "x" * (64 * 1024 + 1)},
    "temperature_invalid": {"sampling": common_pb2.Sampling(temperature=float("nan"))},
    "top_p_invalid": {"sampling": common_pb2.Sampling(top_p=1.5)},
    "tool_unknown": {"tools": ["calculater"]},
    "scenario_unknown": {"scenario": "tol_loop"},
}


async def test_bad_requests_are_refused_by_name_and_the_server_lives(tmp_path: Path) -> None:
    async with external(tmp_path) as (address, model):
        for kind, fields in BAD_REQUESTS.items():
            ran = await run_task(address, task(**fields))
            assert ran.error is not None
            assert (ran.error.code, ran.error.kind, ran.error.definite) == (Code.INVALID_ARGUMENT, kind, True)
            assert ran.kinds == ["record"]
            assert not ran.record.attempts
        huge = await run_task(address, task(prompt="x" * 10_000_000))
        assert huge.error is not None
        assert huge.error.code is Code.RESOURCE_EXHAUSTED
        for temperature in (-0.5, float("inf")):
            ran = await run_task(address, task(sampling=common_pb2.Sampling(temperature=temperature)))
            assert ran.error is not None
            assert ran.error.kind == "temperature_invalid"
        assert model.metadata == []
        assert (await run_task(address, task())).answer == "It is 42."


async def test_an_expired_deadline_is_refused_before_any_hop(tmp_path: Path) -> None:
    async with external(tmp_path) as (address, model):
        for timeout_s in (0.0, 0.001, 0.005):
            # Of its own, as a run may be in progress for a moment after its client has left.
            ran = await run_task(address, task(run_id=f"r{timeout_s}"), timeout_s=timeout_s)
            assert ran.error is not None
            assert ran.error.code is Code.DEADLINE_EXCEEDED
        assert model.metadata == []
        assert (await run_task(address, task())).error is None


async def test_two_hundred_runs_at_once_end_in_an_answer_or_a_typed_refusal(tmp_path: Path) -> None:
    async with (
        external(tmp_path, max_concurrent_runs=32) as (address, model),
        open_channel(address) as channel,
    ):
        stub = agent_pb2_grpc.AgentServiceStub(channel)

        async def run_one(number: int) -> str:
            try:
                events = [event async for event in stub.Run(task(run_id=f"r{number}"), timeout=HANG_S)]
            except grpc.aio.AioRpcError as error:
                return error.code().name
            assert events[-1].WhichOneof("event") == "record"
            return next(event.answer.text for event in events if event.WhichOneof("event") == "answer")

        model.gate.clear()  # so that who is let in stays until all have come
        runs = [asyncio.create_task(run_one(number)) for number in range(200)]
        refused = [await ended for ended in islice(asyncio.as_completed(runs), 200 - 32)]
        assert set(refused) == {"RESOURCE_EXHAUSTED"}
        model.gate.set()
        assert (await asyncio.gather(*runs)).count("It is 42.") == 32
        assert await run_one(1000) == "It is 42."


async def test_a_run_id_in_progress_is_refused(tmp_path: Path) -> None:
    async with (
        external(tmp_path, lambda request: [None]) as (address, model),
        open_channel(address) as channel,
    ):
        first = agent_pb2_grpc.AgentServiceStub(channel).Run(task(), timeout=HANG_S)
        await asyncio.wait_for(model.hanging.wait(), HANG_S)
        second = await run_task(address, task())
        first.cancel()
    assert second.error is not None
    assert (second.error.code, second.error.kind) == (Code.ALREADY_EXISTS, "run_id_in_use")


async def test_what_nobody_foresaw_is_a_typed_error_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(key: AttemptKey) -> dict[str, str]:
        raise ZeroDivisionError("planted")

    async with external(tmp_path, chats, annotate=breaks) as (address, _):
        ran = await run_task(address, task())
    assert ran.error is not None
    assert (ran.error.code, ran.error.kind, ran.error.definite) == (Code.INTERNAL, "internal", False)
    assert ran.kinds == ["record"]
    assert "planted" in caplog.text
