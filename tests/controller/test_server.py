"""The external arm as a client sees it: real controller, real tools, and a model server whose words are the test's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from controller.policy import Policy
from controller.ports import AttemptKey
from controller.remote import open_channel
from controller.server import SERVICE_NAME
from tests.controller.doubles import completion, failure, spec, task, tool_turn
from tests.controller.servers import (
    HangingTools,
    Inference,
    controller,
    inference,
    real_tools,
    run_task,
    serving,
)
from tests.limits import HANG_S, longer_and_longer
from treni import metadata
from treni.errors import Code
from treni.v1 import agent_pb2_grpc, common_pb2, inference_pb2, tools_pb2_grpc

PATIENT = Policy(
    run_timeout_s=4 * HANG_S,
    model_timeout_s=2 * HANG_S,
    tool_timeout_s=HANG_S,
    retries=1,
    backoff_initial_s=0.001,
)


def calculates(request: inference_pb2.GenerateRequest) -> Sequence[Any]:
    """A model that asks the calculator for 6 * 7 and says what it heard."""
    if request.messages[-1].role == "user":
        return tool_turn(("calculator", '{"expression": "6*7"}'))
    return completion(f"It is {json.loads(request.messages[-1].content)['value']}.")


def chats(request: inference_pb2.GenerateRequest) -> Sequence[Any]:
    return completion("Hello to you.")


@asynccontextmanager
async def external(
    tmp_path: Path, reply: Any = calculates, *, policy: Policy = PATIENT, **options: Any
) -> AsyncIterator[tuple[str, Inference]]:
    model = Inference(reply)
    async with AsyncExitStack() as stack:
        model_address = await stack.enter_async_context(inference(model))
        tools_address = await stack.enter_async_context(real_tools(tmp_path))
        address = await stack.enter_async_context(controller(model_address, tools_address, policy, **options))
        yield address, model


async def test_a_task_runs_to_its_answer_over_both_hops(tmp_path: Path) -> None:
    async with external(tmp_path) as (address, model):
        ran = await run_task(address, task(request_index=5))
    assert ran.error is None
    assert [kind for kind in ran.kinds if kind != "text"] == ["tool_call", "tool_result", "answer", "record"]
    assert ran.shown == ran.answer == "It is 42."
    record = ran.record
    assert [(a.hop, a.call_index, a.attempt, a.outcome, a.code, a.name) for a in record.attempts] == [
        ("model", 0, 0, "ok", "OK", ""),
        ("tool", 0, 0, "ok", "OK", "calculator"),
        ("model", 1, 0, "ok", "OK", ""),
    ]
    assert record.arm == "external"
    assert record.attempts[1].idempotency_key == "r1/0"
    assert record.tools[0].result_json == '{"value": 42}'
    assert 0 < record.tools[0].tool_s < record.attempts[1].duration_s
    assert 0 < record.loop_s < record.total_s
    assert [sent[metadata.CALL_INDEX] for sent in model.metadata] == ["0", "1"]
    assert model.metadata[0][metadata.RUN_ID] == "r1"
    assert model.metadata[0][metadata.REQUEST_INDEX] == "5"
    assert model.metadata[0][metadata.ATTEMPT] == "0"


async def test_the_caller_s_deadline_bounds_the_hops(tmp_path: Path) -> None:
    async with external(tmp_path, chats) as (address, model):
        await run_task(address, task(), timeout_s=HANG_S)
        await run_task(address, task(), timeout_s=10 * HANG_S)
        await run_task(address, task(), timeout_s=None)
    near, far, none = model.time_remaining_s
    assert near is not None
    assert near < HANG_S
    for remaining_s in (far, none):
        assert remaining_s is not None
        assert (
            HANG_S < remaining_s <= PATIENT.model_timeout_s * 1.01
        )  # gRPC rounds timeouts up, by at most 1 %


async def test_only_the_tools_asked_for_are_offered_and_in_that_order(tmp_path: Path) -> None:
    offered: list[list[str]] = []

    def reply(request: inference_pb2.GenerateRequest) -> Sequence[Any]:
        offered.append([tool.name for tool in request.tools])
        return completion("Yes.")

    async with external(tmp_path, reply) as (address, _):
        await run_task(address, task(tools=["notes_search", "calculator"]))
        await run_task(address, task())
    assert offered[0] == ["notes_search", "calculator"]
    assert sorted(offered[1]) == ["calculator", "facts_sql", "ledger_append", "notes_search"]


async def test_the_first_text_arrives_before_the_last_is_written(tmp_path: Path) -> None:
    begins = [*completion("Hello to you.")[:2], None]
    async with (
        external(tmp_path, lambda request: begins) as (address, model),
        open_channel(address) as channel,
    ):
        call = agent_pb2_grpc.AgentServiceStub(channel).Run(task(), timeout=HANG_S)
        first = await call.read()
        await asyncio.wait_for(model.hanging.wait(), HANG_S)
        call.cancel()
    assert first.text.text == "Hel"


@pytest.mark.parametrize("intercepted", [False, True])
async def test_cancelling_a_run_stops_the_model_downstream(tmp_path: Path, intercepted: bool) -> None:
    class PassOn(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details, request)

    interceptors = [PassOn()] if intercepted else []
    options: dict[str, Any] = {"interceptors": interceptors}
    async with (
        external(tmp_path, lambda request: [None], **options) as (address, model),
        open_channel(address) as channel,
    ):
        call = agent_pb2_grpc.AgentServiceStub(channel).Run(task(), timeout=HANG_S)
        await asyncio.wait_for(model.hanging.wait(), HANG_S)
        call.cancel()
        await asyncio.wait_for(model.cancelled.wait(), HANG_S)
        # The slot and the run's id are free again.
        model.reply = chats
        assert (await run_task(address, task())).answer == "Hello to you."


@pytest.mark.parametrize("intercepted", [False, True])
async def test_cancelling_a_run_stops_the_tool_downstream(intercepted: bool) -> None:
    class PassOn(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details, request)

    tools = HangingTools([spec("calculator")])
    async with AsyncExitStack() as stack:
        model_address = await stack.enter_async_context(inference(Inference(calculates)))
        tools_address = await stack.enter_async_context(
            serving(lambda server: tools_pb2_grpc.add_ToolServiceServicer_to_server(tools, server))
        )
        address = await stack.enter_async_context(
            controller(
                model_address,
                tools_address,
                PATIENT,
                interceptors=[PassOn()] if intercepted else [],
            )
        )
        channel = await stack.enter_async_context(open_channel(address))
        call = agent_pb2_grpc.AgentServiceStub(channel).Run(task(), timeout=HANG_S)
        await asyncio.wait_for(anext(aiter(call)), HANG_S)
        await asyncio.wait_for(tools.hanging.wait(), HANG_S)
        call.cancel()
        await asyncio.wait_for(tools.cancelled.wait(), HANG_S)
    assert len(tools.time_remaining_s) == 1


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


async def test_a_connection_that_takes_long_to_be_made_is_waited_for(tmp_path: Path) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = address.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(relay(reader, back, 0))
            group.create_task(relay(there, writer, 0.3))

    async with (
        external(tmp_path, chats) as (address, _),
        await asyncio.start_server(accept, "127.0.0.1") as slow,
    ):
        port = slow.sockets[0].getsockname()[1]
        assert (await run_task(f"127.0.0.1:{port}", task())).answer == "Hello to you."


async def test_annotations_travel_as_metadata(tmp_path: Path) -> None:
    def annotate(key: AttemptKey) -> dict[str, str]:
        return {metadata.FAULT: '{"id":"f1"}'} if key.hop == "model" and key.call_index == 1 else {}

    async with external(tmp_path, annotate=annotate) as (address, model):
        ran = await run_task(address, task())
    assert [sent.get(metadata.FAULT) for sent in model.metadata] == [None, '{"id":"f1"}']
    assert [a.fault_id for a in ran.record.attempts] == ["", "", "f1"]


BAD_REQUESTS = {
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
            ran = await run_task(address, task(), timeout_s=timeout_s)
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


async def test_health_and_reflection(tmp_path: Path) -> None:
    async with external(tmp_path) as (address, _), open_channel(address) as channel:
        for service in ("", SERVICE_NAME):
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service)
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (response,) = [response async for response in stub.ServerReflectionInfo(requests)]
        assert SERVICE_NAME in {service.name for service in response.list_services_response.service}
