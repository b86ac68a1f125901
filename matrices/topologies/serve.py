"""`python -m matrices.topologies.serve ROLE CONFIG`: a process of a cell. Chaos meets the services here, nowhere else.

Each role imports what it needs when it is asked for, so that the controller does not wait for NumPy.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from chaos.deliveries import DeliveryLog
from chaos.faults import Hop
from chaos.schedule import AttemptScheduler, Schedule
from controller.ports import Annotate, AttemptKey, ToolPort
from matrices.planning.plan import policy_of, schedules_of
from matrices.spec.profiles import Profile
from matrices.topologies.processes import die_with_parent
from tools_svc.protocol import ToolsConfig
from treni import serving
from treni.channels import open_channel
from treni.errors import TreniError

Config = dict[str, Any]


def _profile(config: Config) -> Profile:
    return Profile.model_validate(config["profile"])


def _schedules(config: Config) -> dict[Hop, Schedule]:
    """The schedules that act on the role's arm, by hop."""
    schedules = schedules_of(_profile(config), prefix=config["cell"], cycle=config["cycle"])
    return {schedule.hop: schedule for schedule in schedules if schedule.hop in config["starts"]}


def _annotate(config: Config) -> Annotate | None:
    schedulers = [
        AttemptScheduler(schedule, config["starts"][hop], concurrency=config["concurrency"])
        for hop, schedule in _schedules(config).items()
    ]

    def annotate(key: AttemptKey) -> dict[str, str]:
        """What the schedule of the attempt's hop says; those of others say nothing."""
        return {name: mark for one in schedulers for name, mark in one.annotate(key).items()}

    return annotate if schedulers else None


def _tools_config(config: Config) -> ToolsConfig:
    # An fsync on a shared disk was seen to take over 250 ms: as long as a tool timeout, and no fault of the plan.
    return ToolsConfig(ledger_path=config["ledger"], ledger_sync="process")


@asynccontextmanager
async def _tools(config: Config) -> AsyncIterator[str]:
    from chaos.injector import FaultInjector
    from tools_svc.server import start

    with DeliveryLog(config["deliveries"]) as deliveries:
        server = await start(
            _tools_config(config), port=config["port"], interceptors=[FaultInjector("tool", deliveries)]
        )
        try:
            yield server.address
        finally:
            await server.stop()


@asynccontextmanager
async def _runtime(config: Config) -> AsyncIterator[str]:
    """Inference and, in the same process, the agent of an arm whose model is its own, if one answers there."""
    from runtime_svc.threads import limit_blas_threads

    limit_blas_threads()  # before NumPy is imported
    from chaos.injector import FaultInjector
    from matrices.command_line import bundled_checkpoint
    from runtime_svc import server as inference
    from runtime_svc.core import InferenceCore
    from runtime_svc.engine import Engine
    from runtime_svc.internal import add_internal_agent

    directory = bundled_checkpoint() if config["model_dir"] is None else Path(config["model_dir"])
    engine = Engine.load(directory, backend=config["backend"])
    with (
        DeliveryLog(config["deliveries"]) as deliveries,
        DeliveryLog(config["hop_deliveries"]) as hop_deliveries,
    ):
        async with InferenceCore(engine) as core, _agents_tools(config, deliveries) as tools:

            def add_agent(server: grpc.aio.Server) -> str:
                return add_internal_agent(
                    server,
                    core,
                    tools,
                    policy_of(_profile(config), seed=config["seed"]),
                    arm=config["agent"],
                    annotate=_annotate(config),
                )

            server = await inference.start(
                core,
                port=config["port"],
                interceptors=[FaultInjector("model", hop_deliveries), FaultInjector("agent", deliveries)],
                others=[] if config["agent"] is None else [add_agent],
            )
            try:
                yield server.address
            finally:
                await server.stop()


@asynccontextmanager
async def _controller(config: Config) -> AsyncIterator[str]:
    """The agent of an arm that reaches its model over a hop."""
    from chaos.injector import FaultInjector
    from controller.remote import RemoteModel
    from controller.server import AgentServicer, start

    with DeliveryLog(config["deliveries"]) as log:
        async with (
            _way(config, "model", config["model_address"], log) as model,
            _agents_tools(config, log) as tools,
        ):
            servicer = AgentServicer(
                arm=config["agent"],
                model=RemoteModel(model),
                tools=tools,
                policy=policy_of(_profile(config), seed=config["seed"]),
                annotate=_annotate(config),
            )
            server = await start(servicer, port=config["port"], interceptors=[FaultInjector("agent", log)])
            try:
                yield server.address
            finally:
                await server.stop()


@asynccontextmanager
async def _agents_tools(config: Config, log: DeliveryLog) -> AsyncIterator[ToolPort]:
    """The tools of the agent that answers here: those of this process, or those behind its tool hop."""
    if config.get("tools_address"):
        from controller.remote import RemoteTools

        async with _way(config, "tool", config["tools_address"], log) as channel:
            yield RemoteTools(channel)
        return
    from chaos.injector import FaultyTools
    from runtime_svc.internal import own_tools
    from tools_svc.registry import build_registry

    with build_registry(_tools_config(config)) as registry:
        yield own_tools(registry, lambda tools: FaultyTools(tools, log))


@asynccontextmanager
async def _way(config: Config, hop: Hop, upstream: str, log: DeliveryLog) -> AsyncIterator[grpc.aio.Channel]:
    """The channel of the agent's hop: through proxies where faults can be put on it, straight where not."""
    if hop not in config["faultable"]:
        async with open_channel(upstream) as channel:
            yield channel
        return
    from chaos.lanes import open_lanes

    schedule = _schedules(config).get(hop)
    async with open_lanes(
        config["toxiproxy_address"], hop=hop, upstream=upstream, schedule=schedule, deliveries=log
    ) as lanes:
        yield lanes


def _server(config: Config) -> AbstractAsyncContextManager[str]:
    """The server of what the role hosts: a model (and the agent in its process), an agent, or tools."""
    if config["model"]:
        return _runtime(config)
    return _tools(config) if config["agent"] is None else _controller(config)


async def serve(role: str, config: Config) -> None:
    """Serves the role until SIGTERM or SIGINT; prints one line of JSON with the address when it is ready."""
    async with _server(config) as address:
        await serving.until_told_to_stop({"service": role, "address": address})


def main() -> int:
    """Exit status 0 after a clean stop, 1 when the role could not be started."""
    role, path = sys.argv[1], Path(sys.argv[2])
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in {"ledger", "deliveries", "hop_deliveries"} & config.keys():
        config[name] = path.parent / config[name]
    die_with_parent(config["parent_pid"])
    try:
        asyncio.run(serve(role, config))
    except TreniError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
