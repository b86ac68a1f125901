"""Internal routing: the loop, the engine and the tools folded into one process.

The one file of a service that imports other services. Here a hop is a function call, so nothing between the two
sides can enforce a deadline: these adapters do, and a policy's timeouts mean the same in both arms.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

import grpc

from controller.deadline import Deadline
from controller.policy import Policy
from controller.ports import MODEL_HOP, TOOL_HOP, Annotate, Call, ToolPort
from controller.server import AgentServicer, add_to
from runtime_svc.core import InferenceCore
from tools_svc.pool import BoundedPool
from tools_svc.registry import Registry
from tools_svc.server import QUEUE, WORKERS
from treni.errors import Code, TreniError
from treni.v1 import common_pb2, inference_pb2, tools_pb2


class CoreModel:
    """A ModelPort over the engine of this process."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    async def generate(
        self, request: inference_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """Streams a completion; closing it, or the deadline, stops the engine at the next token."""
        async with aclosing(self._core.generate(request)) as chunks:
            while True:
                # Around each chunk and not around the stream: a timeout must not strike while the reader of
                # this generator is busy with something else.
                async with _enforced(call.deadline, MODEL_HOP):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
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
        """Runs one tool. A caller that is cancelled leaves: work that began is finished, nobody hears of it."""
        work = partial(self._registry.call, request)
        return await self._pool.run(work, deadline_s=call.deadline.remaining_s())


class PunctualTools:
    """A ToolPort that gives up on another one at the call's deadline."""

    def __init__(self, tools: ToolPort) -> None:
        self._tools = tools

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        """What the other port lists."""
        return await self._tools.specs(timeout_s=timeout_s)

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        """What the other port answers in time. Raises DEADLINE_EXCEEDED, not definite: the tool may have run."""
        async with _enforced(call.deadline, TOOL_HOP):
            return await self._tools.call(request, call)


def add_internal_agent(
    server: grpc.aio.Server,
    core: InferenceCore,
    registry: Registry,
    policy: Policy,
    annotate: Annotate | None = None,
    wrap_tools: Callable[[ToolPort], ToolPort] | None = None,
) -> str:
    """Adds the internal arm to a server that has not started; the service's full name.

    `wrap_tools` puts something of the caller's around the tools, within reach of the policy's timeout. The
    caller keeps `core` and `registry`, and closes them.
    """
    tools: ToolPort = RegistryTools(registry, BoundedPool(workers=WORKERS, queue=QUEUE))
    if wrap_tools is not None:
        tools = wrap_tools(tools)
    servicer = AgentServicer(
        arm="internal", model=CoreModel(core), tools=PunctualTools(tools), policy=policy, annotate=annotate
    )
    return add_to(server, servicer)


@asynccontextmanager
async def _enforced(deadline: Deadline, hop: str) -> AsyncIterator[None]:
    """Cancels the block at the deadline and raises DEADLINE_EXCEEDED in its place."""
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            yield
    except TimeoutError:
        raise TreniError(
            Code.DEADLINE_EXCEEDED,
            "deadline_exceeded",
            expected=f"the {hop} hop to answer before its deadline",
            got="no answer in time",
            todo="see the cause; retry only if the call is idempotent",
            hop=hop,
        ) from None
