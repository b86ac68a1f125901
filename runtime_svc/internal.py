"""Internal routing: the loop, the engine and the tools folded into one process.

The one file of a service that imports other services. Here a hop is a function call, so nothing between the two
sides can enforce a deadline: these adapters do, and a policy's timeouts mean the same in both arms.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import grpc

from controller.deadline import Deadline
from controller.policy import Policy
from controller.ports import MODEL_HOP, TOOL_HOP, Annotate, Call, ToolPort
from controller.server import AgentServicer, add_to
from runtime_svc.core import InferenceCore
from tools_svc.pool import BoundedPool
from tools_svc.registry import Registry
from tools_svc.server import QUEUE, WORKERS, call_tool
from treni.errors import Code, TreniError
from treni.v1 import common_pb2, inference_pb2, tools_pb2

T = TypeVar("T")


class CoreModel:
    """A ModelPort over the engine of this process."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    async def generate(
        self, request: inference_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """Streams a completion; closing it, or the deadline, stops the engine at the next token."""
        async with aclosing(self._core.generate(request)) as chunks:
            # Chunk by chunk and not the stream as a whole: a timeout must not strike while the reader of this
            # generator is busy with something else.
            while (chunk := await _in_time(anext(chunks, None), call.deadline, MODEL_HOP)) is not None:
                yield chunk


class RegistryTools:
    """A ToolPort over the tools of this process, which run in a pool of threads as in the tool server."""

    def __init__(self, registry: Registry, pool: BoundedPool) -> None:
        self._registry = registry
        self._pool = pool

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        """The registry's tools, at once."""
        return self._registry.specs()

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        """Runs one tool. A caller that is cancelled leaves, and work that began is told so."""
        return await call_tool(self._registry, self._pool, request, deadline_s=call.deadline.remaining_s())


class PunctualTools:
    """A ToolPort that gives up on another one at the call's deadline."""

    def __init__(self, tools: ToolPort) -> None:
        self._tools = tools

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        """What the other port lists."""
        return await self._tools.specs(timeout_s=timeout_s)

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        """What the other port answers in time. Raises DEADLINE_EXCEEDED, not definite: the tool may have run."""
        return await _in_time(self._tools.call(request, call), call.deadline, TOOL_HOP)


def own_tools(registry: Registry, wrap: Callable[[ToolPort], ToolPort] | None = None) -> ToolPort:
    """The tools of this process, as its own agent calls them.

    `wrap` puts something of the caller's around them, within reach of the policy's timeout. The caller keeps `registry`
    and closes it.
    """
    tools: ToolPort = RegistryTools(registry, BoundedPool(workers=WORKERS, queue=QUEUE))
    return PunctualTools(tools if wrap is None else wrap(tools))


def add_internal_agent(
    server: grpc.aio.Server,
    core: InferenceCore,
    tools: ToolPort,
    policy: Policy,
    *,
    arm: str = "internal",
    annotate: Annotate | None = None,
) -> str:
    """Adds an agent over the engine of this process to a server that has not started; the service's full name.

    With `own_tools` it is the internal arm; `arm` names it in records. The caller keeps `core` and closes it.
    """
    servicer = AgentServicer(arm=arm, model=CoreModel(core), tools=tools, policy=policy, annotate=annotate)
    return add_to(server, servicer)


async def _in_time(work: Awaitable[T], deadline: Deadline, hop: str) -> T:
    """What `work` comes to; at the deadline it is cancelled and DEADLINE_EXCEEDED raised, not definite."""
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            return await work
    except TimeoutError:
        raise TreniError(
            Code.DEADLINE_EXCEEDED,
            "deadline_exceeded",
            expected=f"the {hop} hop to answer before its deadline",
            got="no answer in time",
            todo="see the cause; retry only if the call is idempotent",
            hop=hop,
        ) from None
