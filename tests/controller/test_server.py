"""The external arm as a client sees it: real controller, real tools, and a model server whose words are the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from controller.ports import AttemptKey
from controller.remote import open_channel
from controller.server import SERVICE_NAME
from tests.controller.doubles import completion, spec, task
from tests.controller.servers import (
    PATIENT,
    HangingTools,
    Inference,
    calculates,
    chats,
    controller,
    external,
    inference,
    run_task,
    serving,
)
from tests.limits import HANG_S
from treni import metadata
from treni.v1 import agent_pb2, agent_pb2_grpc, inference_pb2, tools_pb2_grpc


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

    def reply(request: inference_pb2.GenerateRequest) -> Sequence[inference_pb2.GenerateChunk]:
        offered.append([tool.name for tool in request.tools])
        return completion("Yes.")

    async with external(tmp_path, reply) as (address, _):
        await run_task(address, task(tools=["notes_search", "calculator"]))
        await run_task(address, task())
    assert offered[0] == ["notes_search", "calculator"]
    assert sorted(offered[1]) == ["calculator", "facts_sql", "ledger_append", "notes_search"]


async def test_the_first_text_arrives_before_the_last_is_written(tmp_path: Path) -> None:
    begins: list[inference_pb2.GenerateChunk | None] = [*completion("Hello to you.")[:2], None]
    async with (
        external(tmp_path, lambda request: begins) as (address, model),
        open_channel(address) as channel,
    ):
        call = agent_pb2_grpc.AgentServiceStub(channel).Run(task(), timeout=HANG_S)
        first = await call.read()
        await asyncio.wait_for(model.hanging.wait(), HANG_S)
        call.cancel()
    assert isinstance(first, agent_pb2.RunEvent)
    assert first.text.text == "Hel"


@pytest.mark.parametrize("intercepted", [False, True])
async def test_cancelling_a_run_stops_the_model_downstream(tmp_path: Path, intercepted: bool) -> None:
    class PassOn(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details, request)

    interceptors = [PassOn()] if intercepted else []
    async with (
        external(tmp_path, lambda request: [None], interceptors=interceptors) as (address, model),
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
