"""What each role serves in a cell: its own service with the cell's policy and faults. Chaos meets the services here.

Each role imports what it needs when it is asked for, so that the controller does not wait for NumPy.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc

from chaos.deliveries import DeliveryLog
from chaos.faults import Hop, Toxic
from chaos.schedule import WARMUP_REQUEST
from controller.ports import AttemptKey, ModelPort, ToolPort
from matrices.spec.outside import key_in
from matrices.topologies.cell_config import NO_STRIKER, CellConfig
from tools_svc.protocol import ToolsConfig
from tools_svc.sources import BUILTIN
from treni.balance import chosen
from treni.channels import knock, open_channel
from treni.doors import OPEN, Door
from treni.fence import fenced
from treni.v1 import inference_pb2

if TYPE_CHECKING:
    from runtime_svc.engine import Engine
    from tools_svc.registry import Registry

OpenCell: TypeAlias = "Callable[[CellConfig, Path, str, Door], AbstractAsyncContextManager[str]]"
"""Serves a role's own service for a cell while the block runs: configuration, folder for its state, host to listen on,
and behind which door; gives the address."""


def deliveries_path(folder: Path, role: str, arm: str) -> Path:
    """Where a role logs the faults that it hands to an arm's attempts."""
    return folder / f"deliveries-{role}-{arm}.jsonl"


def ledger_path(folder: Path, role: str) -> Path:
    """Where a role's tools keep their ledger."""
    return folder / f"ledger-{role}.sqlite"


def _log(config: CellConfig, folder: Path, arm: str) -> DeliveryLog:
    return DeliveryLog(deliveries_path(folder, config.role, arm))


def _tools_config(config: CellConfig, folder: Path, sources: Sequence[str]) -> ToolsConfig:
    # An fsync on a shared disk was seen to take over 250 ms: as long as a tool timeout, and no fault of the plan.
    return ToolsConfig(
        ledger_path=ledger_path(folder, config.role),
        ledger_sync="process",
        session=config.fence,
        sources=tuple(sources),
    )


@asynccontextmanager
async def _own_registry(config: CellConfig, folder: Path, sources: Sequence[str]) -> AsyncIterator[Registry]:
    """The tools of this process. Raises FAILED_PRECONDITION (`tools_differ`) for others than were planned with."""
    from matrices.topologies.roles_asked import refuse_other_tools
    from tools_svc.registry import build_registry

    # In a thread: a source may take its time to open and to close, and this process has others to answer.
    registry = await asyncio.to_thread(build_registry, _tools_config(config, folder, sources))
    try:
        refuse_other_tools(registry.specs(), config.listed)
        yield registry
    finally:
        await asyncio.to_thread(registry.close)


def open_tools(sources: Sequence[str] = BUILTIN) -> OpenCell:
    """What serves the tools of these sources, with the faults of their hop and site in front of them."""
    from chaos.injector import FaultInjector
    from tools_svc.server import serve

    @asynccontextmanager
    async def opened(config: CellConfig, folder: Path, host: str, door: Door = OPEN) -> AsyncIterator[str]:
        with _log(config, folder, config.arm) as deliveries:
            async with _own_registry(config, folder, sources) as registry:
                server = await serve(
                    registry,
                    host=host,
                    port=config.port,
                    interceptors=[*fenced(config.fence), FaultInjector("tool", deliveries)],
                    door=door,
                )
                try:
                    yield server.address
                finally:
                    await server.stop()

    return opened


def open_runtime(engine: Engine, sources: Sequence[str] = BUILTIN) -> OpenCell:
    """What serves inference by that engine and, in the same process, the agent of an arm whose model it is."""
    from chaos.injector import FaultInjector
    from runtime_svc import server as inference
    from runtime_svc.core import InferenceCore
    from runtime_svc.internal import add_internal_agent

    class CellCore(InferenceCore):
        """An engine's core for one session: a prompt never finds what an earlier session left under its key."""

        def __init__(self, salt: str) -> None:
            super().__init__(engine)
            self._salt = salt

        def generate(
            self, request: inference_pb2.GenerateRequest
        ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
            salted = inference_pb2.GenerateRequest()
            salted.CopyFrom(request)
            if request.cache_key:
                salted.cache_key = f"{self._salt}/{request.cache_key}"
            return super().generate(salted)

    @asynccontextmanager
    async def opened(config: CellConfig, folder: Path, host: str, door: Door = OPEN) -> AsyncIterator[str]:
        with (
            _log(config, folder, config.arm) as deliveries,
            _log(config, folder, config.caller) as hop_deliveries,
        ):
            async with (
                CellCore(os.urandom(8).hex()) as core,
                _agents_tools(config, folder, deliveries, sources) as tools,
            ):

                def add_agent(server: grpc.aio.Server) -> str:
                    assert config.agent is not None
                    return add_internal_agent(
                        server, core, tools, config.policy, arm=config.agent, annotate=config.annotate
                    )

                server = await inference.start(
                    core,
                    host=host,
                    port=config.port,
                    interceptors=[
                        *fenced(config.fence),
                        FaultInjector("model", hop_deliveries),
                        FaultInjector("agent", deliveries),
                    ],
                    others=[] if config.agent is None else [add_agent],
                    door=door,
                )
                try:
                    yield server.address
                finally:
                    await server.stop()

    return opened


def open_controller(sources: Sequence[str] = BUILTIN) -> OpenCell:
    """What serves the agent of an arm that reaches its model over a hop."""
    from chaos.injector import FaultInjector
    from controller.server import AgentServicer, start

    @asynccontextmanager
    async def opened(config: CellConfig, folder: Path, host: str, door: Door = OPEN) -> AsyncIterator[str]:
        assert config.agent is not None
        with _log(config, folder, config.arm) as log:
            async with (
                _agents_model(config, log) as model,
                _agents_tools(config, folder, log, sources) as tools,
            ):
                servicer = AgentServicer(
                    arm=config.agent,
                    model=model,
                    tools=tools,
                    policy=config.policy,
                    annotate=config.annotate,
                )
                server = await start(
                    servicer,
                    host=host,
                    port=config.port,
                    interceptors=[*fenced(config.fence), FaultInjector("agent", log)],
                    door=door,
                )
                try:
                    yield server.address
                finally:
                    await server.stop()

    return opened


@asynccontextmanager
async def open_adapter(config: CellConfig, folder: Path, host: str, door: Door = OPEN) -> AsyncIterator[str]:
    """Serves the user's own agent: a black box behind the contract of all agents."""
    from chaos.injector import FaultInjector
    from controller.own_agent.opening import open_agent
    from controller.own_agent.servicer import OwnAgentServicer
    from controller.server import start

    assert config.agent is not None
    assert config.own_agent is not None
    spec = config.own_agent
    with _log(config, folder, config.arm) as log:
        async with open_agent(
            url=spec.url,
            key=key_in(spec.key_env, option="--agent-key-env"),
            command=spec.command,
            folder=spec.folder,
            log_path=folder / f"{config.role}-command.log",
        ) as agent:
            servicer = OwnAgentServicer(arm=config.agent, agent=agent, policy=config.policy, seed=config.seed)
            server = await start(
                servicer,
                host=host,
                port=config.port,
                interceptors=[*fenced(config.fence), FaultInjector("agent", log)],
                door=door,
            )
            try:
                yield server.address
            finally:
                await server.stop()


@asynccontextmanager
async def _agents_model(config: CellConfig, log: DeliveryLog) -> AsyncIterator[ModelPort]:
    """The model of the agent that answers here: a runtime of ours behind its model hop, or somebody's endpoint."""
    if config.endpoint is None:
        from controller.remote import RemoteModel

        async with _way(config, "model", config.model_address, log) as channel:
            yield RemoteModel(channel, fence=config.fence)
        return
    from chaos.http_lanes import open_http_lanes
    from controller.endpoint.model import Endpoint, open_endpoint

    spec = config.endpoint
    endpoint = Endpoint(
        url=spec.url,
        model=spec.model,
        key=key_in(spec.key_env, option="--model-key-env"),
        parameters=spec.parameters,
        omit=spec.omit,
    )
    async with AsyncExitStack() as stack:
        if not spec.can_be_faulted:
            yield await stack.enter_async_context(open_endpoint(endpoint))
            return
        lanes = await stack.enter_async_context(
            open_http_lanes(
                config.toxiproxy_address,
                hop="model",
                upstream=spec.address,
                schedule=config.schedules.get("model"),
                deliveries=log,
                network=_network(config, "model"),
            )
        )
        yield await stack.enter_async_context(open_endpoint(endpoint, lanes, proxied=True))


@asynccontextmanager
async def _agents_tools(
    config: CellConfig, folder: Path, log: DeliveryLog, sources: Sequence[str]
) -> AsyncIterator[ToolPort]:
    """The tools of the agent that answers here: those of this process, or those behind its tool hop."""
    if config.tools_addresses:
        from controller.balance import BalancedTools
        from controller.remote import RemoteTools

        async with AsyncExitStack() as ways:
            channels = [
                await ways.enter_async_context(_way(config, "tool", address, log))
                for address in config.tools_addresses
            ]
            ports = [RemoteTools(channel, fence=config.fence) for channel in channels]
            yield BalancedTools(ports, _spread(config))
        return
    from chaos.injector import FaultyTools
    from runtime_svc.internal import own_tools

    async with _own_registry(config, folder, sources) as registry:
        yield own_tools(registry, lambda tools: FaultyTools(tools, log))


def _spread(config: CellConfig) -> Callable[[AttemptKey], int]:
    """The number of the tool service that an attempt goes to: by its request, so that it is one for a whole run.

    A round of requests has one for each controller, so that in the end each controller reaches every tool service.
    """
    count, warmed_up = len(config.tools_addresses), itertools.count()

    def choose(key: AttemptKey) -> int:
        if key.request_index == WARMUP_REQUEST:
            return next(warmed_up) % count
        return chosen(key.request_index // config.controllers, count)

    return choose


@asynccontextmanager
async def _way(
    config: CellConfig, hop: Hop, upstream: str, log: DeliveryLog
) -> AsyncIterator[grpc.aio.Channel]:
    """The channel of the agent's hop: through proxies where faults can be put on it, straight where not."""
    from chaos.striking import striking

    striker = config.strikers.get(hop, NO_STRIKER)
    async with striking(striker.address, striker.role) as interceptors:
        if hop not in config.faultable:
            async with open_channel(upstream, interceptors=interceptors) as channel:
                await knock(channel, upstream)
                yield channel
            return
        from chaos.lanes import open_lanes

        async with open_lanes(
            config.toxiproxy_address,
            hop=hop,
            upstream=upstream,
            schedule=config.schedules.get(hop),
            deliveries=log,
            network=_network(config, hop),
            interceptors=interceptors,
        ) as lanes:
            yield lanes


def _network(config: CellConfig, hop: Hop) -> tuple[Toxic, ...]:
    """What makes the hop as slow as the network that it is to be like."""
    from chaos.emulation import toxics

    network = config.networks.get(hop)
    return () if network is None else toxics(rtt_s=network.rtt, jitter_s=network.jitter)
