"""Real servers for the tests, each on a port of its own.

`Inference` serves completions that a function of the test makes: a double of the model behind a real server. The
tools are the real ones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from controller.policy import Policy
from controller.ports import Annotate
from controller.remote import RemoteModel, RemoteTools, open_channel
from controller.server import AgentServicer, start
from tests.controller.doubles import completion, tool_turn
from tests.limits import HANG_S
from tools_svc.protocol import ToolsConfig
from tools_svc.server import start as start_tools
from treni import metadata
from treni.errors import TreniError, abort, from_rpc_error
from treni.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    common_pb2,
    inference_pb2,
    inference_pb2_grpc,
    tools_pb2,
    tools_pb2_grpc,
)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Reply: TypeAlias = Callable[
    [inference_pb2.GenerateRequest], Sequence[inference_pb2.GenerateChunk | TreniError | None]
]

PATIENT = Policy(
    run_timeout_s=4 * HANG_S,
    model_timeout_s=2 * HANG_S,
    tool_timeout_s=HANG_S,
    retries=1,
    backoff_initial_s=0.001,
)
"""Times that no machine is too slow for."""


class Inference(inference_pb2_grpc.InferenceServiceServicer):
    """Streams `reply(request)` once `gate` is open; an error among the chunks ends the call with it, None hangs."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.gate = asyncio.Event()
        self.gate.set()
        self.metadata: list[dict[str, Any]] = []
        self.time_remaining_s: list[float | None] = []
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Generate(self, request: inference_pb2.GenerateRequest, context: Context) -> None:  # type: ignore[override]
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.time_remaining_s.append(context.time_remaining())
        await self.gate.wait()
        try:
            for step in self.reply(request):
                if step is None:
                    self.hanging.set()
                    await asyncio.Event().wait()
                elif isinstance(step, TreniError):
                    await abort(context, step)
                else:
                    await context.write(step)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def Embed(
        self, request: inference_pb2.EmbedRequest, context: Context
    ) -> inference_pb2.EmbedResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async def Info(self, request: inference_pb2.InfoRequest, context: Context) -> inference_pb2.InfoResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)


class HangingTools(tools_pb2_grpc.ToolServiceServicer):
    """Lists the given tools and never answers a call."""

    def __init__(self, specs: Sequence[common_pb2.ToolSpec]) -> None:
        self._specs = specs
        self.time_remaining_s: list[float] = []
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def List(
        self, request: tools_pb2.ListToolsRequest, context: Context
    ) -> tools_pb2.ListToolsResponse:
        return tools_pb2.ListToolsResponse(tools=self._specs)

    async def Call(self, request: tools_pb2.CallToolRequest, context: Context) -> tools_pb2.CallToolResponse:
        self.time_remaining_s.append(context.time_remaining())
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


@asynccontextmanager
async def serving(add: Callable[[grpc.aio.Server], Any]) -> AsyncIterator[str]:
    """A started server, after `add(server)`; its address."""
    server = grpc.aio.server(options=metadata.SERVER_OPTIONS)
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def real_tools(tmp_path: Path) -> AsyncIterator[str]:
    """The real tool server; its address."""
    server = await start_tools(ToolsConfig(ledger_path=tmp_path / "ledger.sqlite"))
    try:
        yield server.address
    finally:
        await server.stop(grace_s=0)


@asynccontextmanager
async def controller(
    model_address: str,
    tools_address: str,
    policy: Policy,
    *,
    annotate: Annotate | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    **limits: int,
) -> AsyncIterator[str]:
    """The external arm in front of two addresses; its own address."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(open_channel(model_address, interceptors=interceptors))
        tools = await stack.enter_async_context(open_channel(tools_address, interceptors=interceptors))
        server = await start(
            AgentServicer(
                arm="external",
                model=RemoteModel(model),
                tools=RemoteTools(tools),
                policy=policy,
                annotate=annotate,
                **limits,
            )
        )
        try:
            yield server.address
        finally:
            await server.stop(grace_s=0)


@asynccontextmanager
async def inference(model: Inference) -> AsyncIterator[str]:
    """`model` behind a server; its address."""
    async with serving(
        lambda server: inference_pb2_grpc.add_InferenceServiceServicer_to_server(model, server)
    ) as address:
        yield address


@dataclass(kw_only=True)
class Ran:
    """What a client saw of one run."""

    events: list[agent_pb2.RunEvent]
    error: TreniError | None

    @property
    def kinds(self) -> list[str | None]:
        return [event.WhichOneof("event") for event in self.events]

    @property
    def record(self) -> agent_pb2.RunRecord:
        assert self.kinds[-1] == "record"
        return self.events[-1].record

    @property
    def answer(self) -> str:
        (answer,) = [event.answer.text for event in self.events if event.WhichOneof("event") == "answer"]
        return answer

    @property
    def shown(self) -> str:
        return "".join(event.text.text for event in self.events)


async def run_task(address: str, request: agent_pb2.RunRequest, *, timeout_s: float | None = HANG_S) -> Ran:
    """Runs one task as any client would."""
    events: list[agent_pb2.RunEvent] = []
    async with open_channel(address) as channel:
        try:
            async for event in agent_pb2_grpc.AgentServiceStub(channel).Run(request, timeout=timeout_s):
                events.append(event)
        except grpc.aio.AioRpcError as error:
            return Ran(events=events, error=from_rpc_error(error, hop="agent"))
    return Ran(events=events, error=None)


def calculates(request: inference_pb2.GenerateRequest) -> Sequence[inference_pb2.GenerateChunk]:
    """A model that asks the calculator for 6 * 7 and says what it heard."""
    if request.messages[-1].role == "user":
        return tool_turn(("calculator", '{"expression": "6*7"}'))
    return completion(f"It is {json.loads(request.messages[-1].content)['value']}.")


def chats(request: inference_pb2.GenerateRequest) -> Sequence[inference_pb2.GenerateChunk]:
    """A model that greets, whatever it is asked."""
    return completion("Hello to you.")


@asynccontextmanager
async def external(
    tmp_path: Path,
    reply: Reply = calculates,
    *,
    policy: Policy = PATIENT,
    annotate: Annotate | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    **limits: int,
) -> AsyncIterator[tuple[str, Inference]]:
    """The external arm before a played model and the real tools; its address and that model."""
    model = Inference(reply)
    async with AsyncExitStack() as stack:
        model_address = await stack.enter_async_context(inference(model))
        tools_address = await stack.enter_async_context(real_tools(tmp_path))
        address = await stack.enter_async_context(
            controller(
                model_address, tools_address, policy, annotate=annotate, interceptors=interceptors, **limits
            )
        )
        yield address, model
