"""The internal arm: the loop, the engine and the real tools in one process, beside the external arm.

The engine is real, over a checkpoint of random weights: its text is noise, and the same noise in both arms. Where
the subject is a tool call, `PlayedCore` writes it: a double of the model, for what the loop and the ports make of
its words.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.policy import Policy
from controller.ports import AttemptKey, Call, ToolPort
from controller.remote import open_channel
from controller.run import unknown_tool
from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from runtime_svc.internal import add_internal_agent, own_tools
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from runtime_svc.server import add_to as add_inference
from runtime_svc.template import ChatTemplate
from tests.controller.doubles import completion, task, tool_turn
from tests.controller.servers import (
    Inference,
    Ran,
    Reply,
    controller,
    inference,
    real_tools,
    run_task,
    serving,
)
from tests.limits import HANG_S, longer_and_longer
from tools_svc.protocol import CallInfo, Tool, ToolOutput, ToolsConfig, make_spec
from tools_svc.registry import Registry, build_registry
from treni import metadata
from treni.errors import Code, TreniError
from treni.v1 import agent_pb2_grpc, common_pb2, inference_pb2, tools_pb2

POLICY = Policy(
    run_timeout_s=HANG_S,
    model_timeout_s=HANG_S,
    tool_timeout_s=HANG_S,
    retries=1,
    backoff_initial_s=0.001,
)


class PlayedCore:
    """A double of the inference core: streams `reply(request)`; an error among the chunks is raised, None hangs."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests = 0
        self.hanging = asyncio.Event()
        self.closed = asyncio.Event()

    async def generate(
        self, request: inference_pb2.GenerateRequest
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        self.requests += 1
        try:
            for step in self.reply(request):
                if step is None:
                    self.hanging.set()
                    await asyncio.Event().wait()
                elif isinstance(step, TreniError):
                    raise step
                else:
                    yield step
        finally:
            self.closed.set()


class Gate(Tool):
    """A tool that blocks its thread until it is let go, and counts how often it was done."""

    spec = make_spec(name="gate", description="Waits.", properties={}, required=(), has_side_effects=True)

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.done = threading.Semaphore(0)

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        self.entered.release()
        self.open.wait(HANG_S)
        self.done.release()
        return ToolOutput(result={"done": True})

    def close(self) -> None:
        self.open.set()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with build_registry(ToolsConfig(ledger_path=tmp_path / "internal.sqlite")) as registry:
        yield registry


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    shape = Shape(context_length=8192)
    return Engine.load(write_random_checkpoint(tmp_path_factory.mktemp("model") / "noise", shape))


@asynccontextmanager
async def internal(
    core: Any,
    registry: Registry,
    policy: Policy = POLICY,
    *,
    annotate: Callable[[AttemptKey], Mapping[str, str]] | None = None,
    wrap_tools: Callable[[ToolPort], ToolPort] | None = None,
) -> AsyncIterator[str]:
    async with serving(
        lambda server: add_internal_agent(
            server, core, own_tools(registry, wrap_tools), policy, annotate=annotate
        )
    ) as address:
        yield address


def works(request: inference_pb2.GenerateRequest) -> Sequence[Any]:
    """A model that calculates, errs, corrects itself and answers, writing text before its first call."""
    said = [message.content for message in request.messages if message.role == "tool"]
    match len(said):
        case 0:
            return tool_turn(
                ("calculator", '{"expression": "6*7"}'),
                ("notes_serch", '{"query": "x"}'),
                before="One moment.",
            )
        case 2:
            return tool_turn(("ledger_append", '{"account": "rentt", "amount": 42}'))
        case 3:
            return tool_turn(("ledger_append", '{"account": "rent", "amount": 42}'))
        case _:
            return completion(f"Recorded {json.loads(said[-1])['recorded']['amount']}.")


def shape_of(ran: Ran) -> tuple[list[Any], dict[str, Any]]:
    """What must be the same in both arms: every event, and the record without its times and its arm.

    Neighbouring text is joined: how it is cut depends on how fast it was read.
    """
    events: list[tuple[str | None, Any]] = []
    for kind, event in zip(ran.kinds[:-1], ran.events, strict=False):
        if kind == "text" and events and events[-1][0] == "text":
            events[-1] = ("text", events[-1][1] + event.text.text)
        else:
            events.append((kind, event.text.text if kind == "text" else event))
    record = ran.record
    attempts = [
        (
            a.hop,
            a.call_index,
            a.attempt,
            a.outcome,
            a.code,
            a.kind,
            a.detail,
            a.idempotency_key,
            a.fault_id,
            a.name,
        )
        for a in record.attempts
    ]
    tools = [(use.name, use.arguments_json, use.result_json, use.is_error) for use in record.tools]
    fields = {
        "attempts": attempts,
        "tools": tools,
        "usage": record.usage,
        "turns": record.turns,
        "awareness": record.awareness,
        "served_by": (record.backend, record.device, record.model),
        "set": sorted(field.name for field, _ in record.ListFields()),
    }
    return events, fields


async def test_both_arms_do_and_tell_the_same(tmp_path: Path, registry: Registry) -> None:
    request = task(request_index=3)
    async with internal(PlayedCore(works), registry) as address:
        inside = await run_task(address, request)
    async with (
        inference(Inference(works)) as model_address,
        real_tools(tmp_path) as tools_address,
        controller(model_address, tools_address, POLICY) as address,
    ):
        outside = await run_task(address, request)
    assert inside.error is None
    assert outside.error is None
    assert inside.answer == outside.answer == "Recorded 42."
    assert [use.is_error for use in inside.record.tools] == [False, True, True, False]
    assert 'did you mean \\"rent\\"?' in inside.record.tools[2].result_json
    assert shape_of(inside) == shape_of(outside)
    assert (inside.record.arm, outside.record.arm) == ("internal", "external")


async def test_both_arms_decode_the_same_text_with_the_real_engine(
    tmp_path: Path, registry: Registry, engine: Engine
) -> None:
    sampling = common_pb2.Sampling(temperature=0.9, seed=11, max_new_tokens=24)
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(InferenceCore(engine))
        model_address = await stack.enter_async_context(serving(partial(add_inference, core=core)))
        inside_address = await stack.enter_async_context(internal(core, registry))
        tools_address = await stack.enter_async_context(real_tools(tmp_path))
        outside_address = await stack.enter_async_context(controller(model_address, tools_address, POLICY))
        inside = await run_task(inside_address, task(run_id="inside", sampling=sampling))
        outside = await run_task(outside_address, task(run_id="outside", sampling=sampling))
    assert inside.error is None, inside.error
    assert inside.record.usage.completion_tokens > 0
    assert inside.record.engine.total_s > 0
    assert shape_of(inside) == shape_of(outside)
    # All of it, unless the noise holds a </think>: then only the end of what was shown was not thought.
    assert inside.shown.endswith(inside.answer)
    assert inside.answer


@pytest.mark.parametrize("before", ["", "One moment."])
async def test_each_prompt_begins_with_the_one_before_and_what_the_model_wrote(
    registry: Registry, before: str
) -> None:
    """So that a KV cache can keep all of it. The template is that of the bundled checkpoint."""
    turns = [
        tool_turn(
            ("calculator", '{ "expression":"6*7"}'), ("calculator", '{"expression": "1+1"}'), before=before
        ),
        completion('<tool_call>{"nonsense"}</tool_call>', malformed="tool call 1: no name"),
        tool_turn(("calculator", '{"expression": "2+2"}')),
        completion("4."),
    ]
    requests: list[inference_pb2.GenerateRequest] = []

    def reply(request: inference_pb2.GenerateRequest) -> Sequence[Any]:
        requests.append(request)
        return turns[len(requests) - 1]

    async with internal(PlayedCore(reply), registry) as address:
        ran = await run_task(address, task())
    assert ran.answer == "4."
    template = ChatTemplate(Path(str(resources.files("runtime_svc.training"))))
    prompts = [template.render(request.messages, request.tools) for request in requests]
    for turn, (prompt, following) in enumerate(pairwise(prompts)):
        written = turns[turn][-1].finish.text
        assert following.startswith(prompt + written + "<|im_end|>")


@pytest.mark.parametrize("name", ["calculater", "LEDGER_APPEND", "nothing like it", "x" * 500, ""])
def test_a_tool_not_offered_reads_to_the_model_like_a_tool_that_does_not_exist(
    registry: Registry, name: str
) -> None:
    with pytest.raises(TreniError) as caught:
        registry.call(tools_pb2.CallToolRequest(name=name, arguments_json="{}"))
    error = unknown_tool(name, [spec.name for spec in registry.specs()])
    assert (error.code, error.kind, str(error)) == (caught.value.code, caught.value.kind, str(caught.value))


async def test_cancelling_a_run_stops_the_engine(registry: Registry) -> None:
    core = PlayedCore(lambda request: [None])
    async with internal(core, registry) as address, open_channel(address) as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Run(task(), timeout=HANG_S)
        await asyncio.wait_for(core.hanging.wait(), HANG_S)
        call.cancel()
        await asyncio.wait_for(core.closed.wait(), HANG_S)


async def test_a_model_that_is_late_is_given_up(registry: Registry) -> None:
    core = PlayedCore(lambda request: [None])
    policy = replace(POLICY, model_timeout_s=0.05)
    async with internal(core, registry, policy) as address:
        ran = await run_task(address, task())
    assert ran.error is not None
    assert (ran.error.kind, ran.error.code, ran.error.definite) == (
        "model_hop_failed",
        Code.DEADLINE_EXCEEDED,
        False,
    )
    assert core.requests == 2
    assert [(a.outcome, a.code) for a in ran.record.attempts] == [("unknown", "DEADLINE_EXCEEDED")] * 2


async def test_a_tool_that_is_late_is_left_to_finish_and_the_run_goes_on() -> None:
    gate = Gate()
    core = PlayedCore(lambda request: tool_turn(("gate", "{}")))
    with Registry([gate]) as registry:
        for timeout_s in longer_and_longer(0.1):
            async with internal(core, registry, replace(POLICY, tool_timeout_s=timeout_s)) as address:
                ran = await run_task(address, task())
            # What a thread takes up too late is definite, and of no interest here.
            if [a.outcome for a in ran.record.attempts if a.hop == "tool"] == ["unknown", "unknown"]:
                break
        assert ran.error is not None
        assert (ran.error.kind, ran.error.code, ran.error.definite) == (
            "tool_hop_failed",
            Code.DEADLINE_EXCEEDED,
            False,
        )
        # Both attempts began and neither was stopped half-way.
        for _ in range(2):
            assert await asyncio.to_thread(gate.entered.acquire, timeout=HANG_S)
        gate.open.set()
        for _ in range(2):
            assert await asyncio.to_thread(gate.done.acquire, timeout=HANG_S)


async def test_what_is_wrapped_around_the_tools_is_within_the_timeout_and_sees_the_annotations(
    registry: Registry,
) -> None:
    seen: list[Call] = []

    class Stalls:
        def __init__(self, tools: ToolPort) -> None:
            self._tools = tools

        async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
            return await self._tools.specs(timeout_s=timeout_s)

        async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
            seen.append(call)
            if metadata.FAULT in call.metadata:
                await asyncio.Event().wait()
            return await self._tools.call(request, call)

    def annotate(key: AttemptKey) -> dict[str, str]:
        return {metadata.FAULT: '{"id":"stall-1"}'} if (key.hop, key.attempt) == ("tool", 0) else {}

    core = PlayedCore(
        lambda request: (
            tool_turn(("calculator", '{"expression": "1+1"}'))
            if request.messages[-1].role == "user"
            else completion("2.")
        )
    )
    for timeout_s in longer_and_longer(0.2):
        seen.clear()
        policy = replace(POLICY, tool_timeout_s=timeout_s)
        async with internal(core, registry, policy, annotate=annotate, wrap_tools=Stalls) as address:
            ran = await run_task(address, task())
        if ran.error is None:
            break
    attempts = [a for a in ran.record.attempts if a.hop == "tool"]
    assert [(a.outcome, a.code, a.fault_id) for a in attempts] == [
        ("unknown", "DEADLINE_EXCEEDED", "stall-1"),
        ("ok", "OK", ""),
    ]
    assert [call.key.attempt for call in seen] == [0, 1]


async def test_the_internal_server_lives_through_two_hundred_runs_at_once(
    registry: Registry, engine: Engine
) -> None:
    sampling = common_pb2.Sampling(max_new_tokens=2)
    async with (
        InferenceCore(engine) as core,
        internal(core, registry) as address,
        open_channel(address) as channel,
    ):
        stub = agent_pb2_grpc.AgentServiceStub(channel)

        async def run_one(number: int) -> str:
            request = task(run_id=f"r{number}", sampling=sampling, tools=["calculator"])
            try:
                events = [event async for event in stub.Run(request, timeout=HANG_S)]
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return str(events[-2].WhichOneof("event"))

        outcomes = await asyncio.gather(*(run_one(number) for number in range(200)))
        assert set(outcomes) <= {"answer", "RESOURCE_EXHAUSTED"}
        assert outcomes.count("answer") >= 64
        assert await run_one(1000) == "answer"
