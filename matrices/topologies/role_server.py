"""One role of a testbed as a server: its EvidenceService, in whatever process the topology runs it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from matrices.topologies import roles
from matrices.topologies.evidence_service import SERVICE, EvidenceServicer, make_state
from matrices.topologies.processes import Child, start_child
from matrices.topologies.role_command import TESTBED_MODULE
from tools_svc.sources import BUILTIN, check_sources
from treni import serving
from treni.door_options import UNGUARDED, DoorSettings
from treni.v1 import evidence_pb2_grpc


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleSettings:
    """What a role is served as, and where.

    `port` is that of the EvidenceService and `service_port` that of the role's own service, 0 for a free one; both are
    behind the door of `doors`. What follows that counts for roles with an engine, and `tools`, where they come from,
    for those with tools; `state` is the folder for evidence.
    """

    role: str
    host: str
    port: int
    service_port: int
    state: Path
    doors: DoorSettings = UNGUARDED
    model_dir: Path | None = None
    backend: str = "numpy"
    encoder: Path | None = None
    slots: int | None = None
    slot_tokens: int | None = None
    batch_invariant: bool = False
    tools: tuple[str, ...] = BUILTIN

    @property
    def arguments(self) -> list[str]:
        """The arguments of `TESTBED_MODULE` for a process with these settings."""
        given = {
            "--host": self.host,
            "--port": self.port,
            "--service-port": self.service_port,
            "--state": self.state,
            "--model": self.model_dir,
            "--backend": self.backend,
            "--encoder": self.encoder,
            "--slots": self.slots,
            "--slot-tokens": self.slot_tokens,
        }
        options = [text for name, value in given.items() if value is not None for text in (name, str(value))]
        if self.tools != BUILTIN:
            options += [text for source in self.tools for text in ("--tools", source)]
        invariant = ["--batch-invariant"] if self.batch_invariant else []
        return [self.role, *options, *self.doors.arguments, *invariant]


class RoleServer:
    """A role that answers at `address`, with its evidence under `state`, until it is closed. Use `start_role`."""

    def __init__(self, servicer: EvidenceServicer, server: serving.RunningServer) -> None:
        self._servicer = servicer
        self._server = server
        self.address = server.address
        self.state = servicer.state

    async def aclose(self) -> None:
        """Ends the session in progress, if there is one, and the server."""
        await self._servicer.aclose()
        await self._server.stop()


def evidence_servicer(settings: RoleSettings) -> EvidenceServicer:
    """The role's EvidenceService, its model loaded. Raises `TreniError` for a state or a model that is none."""
    make_state(settings.state)
    check_sources(settings.tools)
    return EvidenceServicer(
        role=settings.role,
        open_cell=_opener(settings),
        state=settings.state,
        host=settings.host,
        port=settings.service_port,
        door=settings.doors.door,
        start_twin=_twin_of(settings),
        gpu=settings.backend != "numpy",
    )


async def start_role(settings: RoleSettings, servicer: EvidenceServicer) -> RoleServer:
    """The role at its address. Raises UNAVAILABLE (`address_not_bound`) where that is taken, or none of the machine."""

    def add(server: grpc.aio.Server) -> str:
        evidence_pb2_grpc.add_EvidenceServiceServicer_to_server(servicer, server)
        return SERVICE

    server = await serving.start([add], host=settings.host, port=settings.port, door=settings.doors.door)
    return RoleServer(servicer, server)


def _opener(settings: RoleSettings) -> roles.OpenCell:
    if settings.role == "tools":
        return roles.open_tools(settings.tools)
    if settings.role == "controller":
        return roles.open_controller(settings.tools)
    if settings.role == "adapter":
        return roles.open_adapter
    if settings.role == "host":
        from matrices.topologies.host_role import open_host

        return open_host
    from runtime_svc.threads import limit_blas_threads

    limit_blas_threads()  # before NumPy is imported
    from matrices.command_line import bundled_checkpoint
    from runtime_svc.engine import Engine
    from runtime_svc.metrics import watch

    engine = Engine.load(
        bundled_checkpoint() if settings.model_dir is None else settings.model_dir,
        backend=settings.backend,
        encoder=settings.encoder,
        slots=settings.slots,
        slot_tokens=settings.slot_tokens,
        batch_invariant=settings.batch_invariant,
    )
    watch(engine)
    return roles.open_runtime(engine, settings.tools)


def _twin_of(settings: RoleSettings) -> Callable[[int], Awaitable[Child]]:
    async def start(number: int) -> Child:
        # Of an option that is given twice the last one counts.
        more = ["--port", "0", "--service-port", "0", "--parent-pid", str(os.getpid())]
        return await start_child(
            "twin",
            ["-m", TESTBED_MODULE, *settings.arguments, *more],
            log_path=settings.state / f"twin-{number}.log",
        )

    return start
