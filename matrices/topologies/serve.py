"""`python -m matrices.topologies.serve ROLE CONFIG`: a process of a cell. Chaos meets the services here, nowhere else.

Each role imports what it needs when it is asked for, so that the controller does not wait for NumPy.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from chaos.deliveries import DeliveryLog
from chaos.faults import Hop
from chaos.schedule import AttemptScheduler, Schedule
from controller.ports import Annotate, AttemptKey
from matrices.planning.plan import policy_of, schedules_of
from matrices.spec.profiles import Profile
from matrices.topologies.processes import die_with_parent
from tools_svc.protocol import ToolsConfig
from treni import serving
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
    """Inference and, in the same process, the internal arm: the loop, the engine and the tools."""
    from runtime_svc.threads import limit_blas_threads

    limit_blas_threads()  # before NumPy is imported
    from chaos.injector import FaultInjector, FaultyTools
    from matrices.command_line import bundled_checkpoint
    from runtime_svc import server as inference
    from runtime_svc.core import InferenceCore
    from runtime_svc.engine import Engine
    from runtime_svc.internal import add_internal_agent
    from tools_svc.registry import build_registry

    directory = bundled_checkpoint() if config["model_dir"] is None else Path(config["model_dir"])
    engine = Engine.load(directory, backend=config["backend"])
    with (
        DeliveryLog(config["deliveries"]) as deliveries,
        DeliveryLog(config["hop_deliveries"]) as hop_deliveries,
        build_registry(_tools_config(config)) as registry,
    ):
        async with InferenceCore(engine) as core:

            def add_agent(server: grpc.aio.Server) -> str:
                return add_internal_agent(
                    server,
                    core,
                    registry,
                    policy_of(_profile(config), seed=config["seed"]),
                    annotate=_annotate(config),
                    wrap_tools=lambda tools: FaultyTools(tools, deliveries),
                )

            server = await inference.start(
                core,
                port=config["port"],
                interceptors=[FaultInjector("model", hop_deliveries)],
                others=[add_agent],
            )
            try:
                yield server.address
            finally:
                await server.stop()


@asynccontextmanager
async def _controller(config: Config) -> AsyncIterator[str]:
    from chaos.lanes import open_lanes
    from controller.remote import RemoteModel, RemoteTools
    from controller.server import AgentServicer, start

    schedules = _schedules(config)
    proxies = config["toxiproxy_address"]
    with DeliveryLog(config["deliveries"]) as log:
        async with (
            open_lanes(
                proxies,
                hop="model",
                upstream=config["model_address"],
                schedule=schedules.get("model"),
                deliveries=log,
            ) as model,
            open_lanes(
                proxies,
                hop="tool",
                upstream=config["tools_address"],
                schedule=schedules.get("tool"),
                deliveries=log,
            ) as tools,
        ):
            servicer = AgentServicer(
                arm="external",
                model=RemoteModel(model),
                tools=RemoteTools(tools),
                policy=policy_of(_profile(config), seed=config["seed"]),
                annotate=_annotate(config),
            )
            server = await start(servicer, port=config["port"])
            try:
                yield server.address
            finally:
                await server.stop()


ROLES: dict[str, Callable[[Config], AbstractAsyncContextManager[str]]] = {
    "tools": _tools,
    "runtime": _runtime,
    "runtime_b": _runtime,
    "model": _runtime,
    "controller": _controller,
}


async def serve(role: str, config: Config) -> None:
    """Serves the role until SIGTERM or SIGINT; prints one line of JSON with the address when it is ready."""
    async with ROLES[role](config) as address:
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
