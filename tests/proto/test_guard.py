"""Every method of every server, treated badly: refused in words, and the server goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from controller.policy import Policy
from controller.remote import RemoteModel, RemoteTools
from controller.server import AgentServicer
from controller.server import start as start_controller
from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from runtime_svc.internal import add_internal_agent, own_tools
from runtime_svc.server import start as start_runtime
from tests.limits import HANG_S
from tests.proto.roles import MODEL
from tests.runtime_svc.attacks.recording import heard, recorded
from tests.runtime_svc.http_front.sockets import wire
from tests.runtime_svc.requests import generate_request
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import build_registry
from tools_svc.server import start as start_tools
from treni import errors, serving, serving_core
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.limits import AGENT_REQUEST, ANSWER_BYTES, CALLS_IN_FLIGHT, TOOL_REQUEST, request_limit
from treni.passes import NOTHING
from treni.v1 import agent_pb2, inference_pb2, inference_pb2_grpc, tools_pb2, tools_pb2_grpc

COMMON = (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
SERVERS = {
    "tools": (TOOL_REQUEST, (tools_pb2.DESCRIPTOR, *COMMON)),
    "controller": (AGENT_REQUEST, (agent_pb2.DESCRIPTOR, *COMMON)),
    "runtime": (AGENT_REQUEST, (inference_pb2.DESCRIPTOR, agent_pb2.DESCRIPTOR, *COMMON)),
}
METHODS = [
    (server, f"/{service.full_name}/{method.name}")
    for server, (_, files) in SERVERS.items()
    for file in files
    for service in file.services_by_name.values()
    for method in service.methods
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(MODEL)


@asynccontextmanager
async def serve(name: str, engine: Engine, tmp_path: Path) -> AsyncIterator[str]:
    """One of `SERVERS` as it is in use; its address."""
    tools = ToolsConfig(ledger_path=tmp_path / f"{name}.sqlite")
    if name == "tools":
        running: Any = await start_tools(tools)
        yield running.address
    elif name == "controller":
        async with open_channel("127.0.0.1:1") as nowhere:
            running = await start_controller(
                AgentServicer(
                    arm="external", model=RemoteModel(nowhere), tools=RemoteTools(nowhere), policy=Policy()
                )
            )
            yield running.address
    else:
        async with InferenceCore(engine) as core:
            with build_registry(tools) as registry:
                port = own_tools(registry)
                running = await start_runtime(
                    core, others=[lambda server: add_internal_agent(server, core, port, Policy())]
                )
                yield running.address
                await running.stop(grace_s=0)
                return
    await running.stop(grace_s=0)


async def refused(channel: grpc.aio.Channel, method: str, data: bytes) -> TreniError:
    """How a call of any shape with these bytes for its request ends.

    With one request and a stream of answers, which on the wire is as good as any other shape. Where requests are a
    stream, gRPC's client may end a call that the server refuses at once as INTERNAL ("Internal error from Core"): what
    it could not send any more counts for more than the status that is on its way.
    """
    raw: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(method)
    call = raw(data, timeout=HANG_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return from_rpc_error(caught.value, hop="x")


@pytest.mark.parametrize("server", SERVERS)
async def test_what_is_served_is_what_is_tested(server: str, engine: Engine, tmp_path: Path) -> None:
    async with serve(server, engine, tmp_path) as address, open_channel(address) as channel:
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await listing.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = (await listing.read()).list_services_response
        await listing.done_writing()
    assert {f"/{each.name}/" for each in answer.service} == {
        method.rpartition("/")[0] + "/" for name, method in METHODS if name == server
    }


@pytest.mark.parametrize("server", SERVERS)
async def test_bytes_that_are_no_request_are_refused_by_every_method(
    server: str, engine: Engine, tmp_path: Path
) -> None:
    largest, _ = SERVERS[server]
    async with serve(server, engine, tmp_path) as address, open_channel(address) as channel:
        for _, method in (each for each in METHODS if each[0] == server):
            for data, code, kind, definite in (
                (b"\xff\xff\xff\xff", Code.INVALID_ARGUMENT, "request_malformed", True),
                (bytes(request_limit(method).most + 1), Code.INVALID_ARGUMENT, "request_too_large", True),
                (bytes(3 * largest.most), Code.RESOURCE_EXHAUSTED, "resource_exhausted", False),
            ):
                error = await refused(channel, method, data)
                assert (method, error.code, error.kind, error.definite) == (method, code, kind, definite)
        for method in ("/treni.v1.Nothing/Call", "/treni.v1.ToolService/Gone", "nonsense"):
            error = await refused(channel, method, b"")
            assert (error.code, error.kind, error.definite) == (Code.UNIMPLEMENTED, "method_unknown", True)
        health = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=HANG_S
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING


class Odd(inference_pb2_grpc.InferenceServiceServicer, tools_pb2_grpc.ToolServiceServicer):
    """Handlers of each shape that do what they are told: raise, answer at length, or hang."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.size = 0
        self.hanging = 0
        self.go_on = asyncio.Event()

    def _act(self) -> str:
        if self.error is not None:
            raise self.error
        return "x" * self.size

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield inference_pb2.GenerateChunk(text=self._act())

    async def Info(self, request: Any, context: Any) -> Any:
        return inference_pb2.InfoResponse(model=self._act())

    async def List(self, request: Any, context: Any) -> Any:
        self.hanging += 1
        await self.go_on.wait()
        return tools_pb2.ListToolsResponse()

    async def Run(self, request: Any, context: Any) -> None:
        await context.write(agent_pb2.RunEvent(answer=agent_pb2.Answer(text=self._act())))


@asynccontextmanager
async def odd() -> AsyncIterator[tuple[Odd, grpc.aio.Channel]]:
    from treni.v1 import agent_pb2_grpc

    servicer = Odd()  # type: ignore[abstract]  # what it lacks is answered by the generated class

    def add(server: grpc.aio.Server) -> str:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
        tools_pb2_grpc.add_ToolServiceServicer_to_server(servicer, server)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(servicer, server)  # type: ignore[arg-type]
        return "treni.v1.InferenceService"

    server = await serving.start([add])
    async with open_channel(server.address) as channel:
        yield servicer, channel
    await server.stop(grace_s=0)


SHAPES = (
    "/treni.v1.InferenceService/Generate",
    "/treni.v1.InferenceService/Info",
    "/treni.v1.AgentService/Run",
)


async def test_what_a_handler_raises_and_what_it_answers_at_length_is_told_in_words() -> None:
    async with odd() as (servicer, channel):
        for shape in SHAPES:
            for raised, code, kind in (
                (MemoryError(), Code.RESOURCE_EXHAUSTED, "out_of_memory"),
                (RuntimeError("odd"), Code.INTERNAL, "internal"),
            ):
                servicer.error = raised
                error = await refused(channel, shape, b"")
                assert (error.code, error.kind, error.definite, error.foreign) == (code, kind, False, False)
            servicer.error, servicer.size = None, ANSWER_BYTES
            error = await refused(channel, shape, b"")
            assert (error.code, error.kind, error.definite) == (Code.INTERNAL, "answer_too_large", False)
        error = await refused(channel, "/treni.v1.InferenceService/Embed", b"")
        assert (error.code, error.kind, error.definite) == (Code.UNIMPLEMENTED, "method_unknown", True)


async def test_calls_beyond_the_limit_are_refused_in_words_and_hold_up_no_other_method() -> None:
    async with odd() as (servicer, channel):
        stub = tools_pb2_grpc.ToolServiceStub(channel)
        for _ in range(2):  # every place comes back
            servicer.go_on.clear()
            servicer.hanging = 0
            calls = [asyncio.ensure_future(stub.List(tools_pb2.ListToolsRequest())) for _ in range(2000)]
            first = asyncio.as_completed(calls)
            for _ in range(2000 - CALLS_IN_FLIGHT.most):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await next(first)
                error = from_rpc_error(caught.value, hop="tool")
                assert (error.code, error.kind, error.definite) == (
                    Code.RESOURCE_EXHAUSTED,
                    "too_many_calls",
                    True,
                )
            assert servicer.hanging == CALLS_IN_FLIGHT.most
            await inference_pb2_grpc.InferenceServiceStub(channel).Info(inference_pb2.InfoRequest())
            left = [call for call in calls if not call.done()]
            for call in left[:100]:
                call.cancel()
            servicer.go_on.set()
            await asyncio.gather(*left, return_exceptions=True)


WORDS = st.text(st.characters(), max_size=6) | st.sampled_from(
    ["😀" * 20_000, "x" * 20_000, "\ud800" * 5_000, "\0\r\n" * 9_000, "ÿ" * 161, "%" * 400]
)


@given(st.tuples(WORDS, WORDS, WORDS, WORDS))
def test_every_error_arrives_with_its_details_whatever_it_quotes(words: tuple[str, str, str, str]) -> None:
    got, expected, todo, fault = words
    error = errors.invalid_argument("quoting", expected=expected, got=got, todo=todo).at("tool")
    error.fault_id = fault

    async def ask() -> TreniError:
        async with odd() as (servicer, channel):
            servicer.error = error
            return await refused(channel, SHAPES[1], b"")

    seen = asyncio.run(ask())
    assert (seen.code, seen.kind, seen.definite, seen.hop) == (Code.INVALID_ARGUMENT, "quoting", True, "tool")
    for field in ("expected", "got", "todo", "fault_id"):
        sent, arrived = getattr(error, field), getattr(seen, field)
        json.dumps(arrived).encode()
        assert len(arrived.encode()) <= errors.MAX_FIELD_BYTES
        if len(sent) < 40 and not any("\ud800" <= letter <= "\udfff" for letter in sent):
            assert arrived == sent


@pytest.mark.parametrize("name", [b"To\xff\xfe\x80ervice", b"\x80" * 11, b"Too\xc3\x28ervice"])
async def test_a_method_whose_name_is_no_text_is_refused_and_the_server_goes_on(
    name: bytes, engine: Engine, tmp_path: Path
) -> None:
    call = await recorded("/treni.v1.ToolService/List", generate_request("Hello"), NOTHING)
    assert b"ToolService" in call
    async with serve("tools", engine, tmp_path) as address, open_channel(address) as channel:
        async with wire(f"http://{address}") as client:
            await client.send(call.replace(b"ToolService", name))
            said = b""
            async with asyncio.timeout(HANG_S):
                while heard(said) == "nothing":
                    said += await client.reader.read(1 << 16)
        assert heard(said) == "status"
        listed = await tools_pb2_grpc.ToolServiceStub(channel).List(
            tools_pb2.ListToolsRequest(), timeout=HANG_S
        )
        assert listed.tools


def test_the_grpc_of_the_lock_file_can_be_kept_from_ending_so() -> None:
    assert serving_core.STEADY
