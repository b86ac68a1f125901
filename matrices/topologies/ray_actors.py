"""What runs in the processes of a Ray cluster: an actor that is a role, and one that keeps the proxies' server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path

from chaos.toxiproxy import ToxiproxyServer
from matrices.topologies.evidence_service import make_state
from matrices.topologies.processes import die_with_parent
from matrices.topologies.ray_doors import ray_doors, stand
from matrices.topologies.ray_protocol import FIRST_PORT, PORT_VARIABLE, STATE_VARIABLE, Begun, Failure
from matrices.topologies.role_server import RoleServer, RoleSettings, evidence_servicer, start_role
from treni import logs
from treni.errors import Code, TreniError, invalid_argument
from treni.trace_options import traced_as_told

KINDS = ("agent", "runtime", "controller", "tools")
MOST_OF_A_KIND = 10

BIND_LIMIT_S = 120.0
"""How long the ports may still be taken by actors that are ending: after its head was lost, a cluster ends on a host
within about a minute. For longer another campaign has them."""

RETRY_S = 0.2


class RoleActor:
    """A role in an actor's process: its server starts with it, so that whoever restarts the one has the other.

    `number` counts the roles of one kind on a host, and decides the ports. What keeps it from starting is told by
    `begun`: an exception here would have Ray try again for ever.
    """

    def __init__(
        self,
        *,
        kind: str,
        number: int,
        host: str,
        backend: str,
        model_dir: str | None,
        tools: tuple[str, ...],
        log_level: str,
        trace: bool,
        trace_endpoint: str,
    ) -> None:
        _settle(log_level)
        self._tracing = contextlib.ExitStack()

        async def start() -> RoleServer:
            _refuse_niceness(host)
            path = _state() / "traces" if trace else None
            self._tracing.enter_context(traced_as_told(kind, path=path, endpoint=trace_endpoint))
            doors = ray_doors()
            stand(doors, host)
            port = port_of(kind, number)
            return await _bound(
                RoleSettings(
                    role=kind,
                    host=host,
                    port=port,
                    service_port=port + 1,
                    state=_state(),
                    doors=doors,
                    model_dir=None if model_dir is None else Path(model_dir),
                    backend=backend,
                    tools=tools,
                )
            )

        self._where = f"the {kind} on {host}"
        self._starting = asyncio.create_task(start())

    async def begun(self) -> str:
        """A `Begun` as JSON: where the role answers, or why it does not."""
        try:
            server = await asyncio.shield(self._starting)
        except Exception as error:
            return Begun(failure=Failure.of(error, self._where)).model_dump_json()
        return Begun(address=server.address, pid=os.getpid()).model_dump_json()

    async def watch(self) -> None:
        """Never answers: a call of it ends when the actor's process does."""
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Ends the role's session and server, so that its ports are free."""
        await (await self._starting).aclose()
        self._tracing.close()


class ProxyActor:
    """The toxiproxy server on a host, a process that ends with the actor's."""

    def __init__(self, *, host: str, log_level: str) -> None:
        _settle(log_level)

        async def start() -> ToxiproxyServer:
            _refuse_niceness(host)
            state = _state()
            make_state(state)
            return await ToxiproxyServer.start(host=host, log_path=state / "toxiproxy.log")

        self._where = f"the proxies on {host}"
        self._starting = asyncio.create_task(start())

    async def begun(self) -> str:
        """A `Begun` as JSON: where the server's API answers, or why it does not."""
        try:
            server = await asyncio.shield(self._starting)
        except Exception as error:
            return Begun(failure=Failure.of(error, self._where)).model_dump_json()
        return Begun(address=server.address, pid=server.pid or 0).model_dump_json()

    async def watch(self) -> None:
        """Never answers: a call of it ends when the actor's process does."""
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Ends the server with all its proxies."""
        await (await self._starting).stop()


def port_of(kind: str, number: int) -> int:
    """The port of the EvidenceService of the `number`th role of a kind on this host; the role's own is the next one."""
    text = os.environ.get(PORT_VARIABLE) or str(FIRST_PORT)
    most = 65535 - 2 * MOST_OF_A_KIND * len(KINDS)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise invalid_argument(
            "environment_invalid",
            expected=f"{PORT_VARIABLE} on {socket.gethostname()} to be a port from 1 to {most}",
            got=repr(text),
            todo="correct it in the start commands of the cluster's file",
        )
    if number >= MOST_OF_A_KIND:
        raise invalid_argument(
            "roles_too_many",
            expected=f"at most {MOST_OF_A_KIND} roles of one kind on a host",
            got=f"one more {kind}",
            todo="have more hosts",
        )
    return int(text) + 2 * (MOST_OF_A_KIND * KINDS.index(kind) + number)


def _settle(log_level: str) -> None:
    """Makes the process of an actor one that a role can be measured in."""
    logs.set_up(level=log_level, form=logs.FORMATS[0])
    # A worker whose node has lost its cluster was seen to go on for minutes, with its ports.
    die_with_parent(os.getppid())
    # Ray starts its workers at a niceness of 15, at which whatever else runs on the host delays every request. The
    # kernel keeps one for each thread; those that are begun later inherit it.
    with contextlib.suppress(OSError):
        wanted = os.getpriority(os.PRIO_PROCESS, os.getppid())
        for thread in os.listdir("/proc/self/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), wanted)


def _refuse_niceness(host: str) -> None:
    """Raises FAILED_PRECONDITION where this process yields to others, and whoever runs it may not change that."""
    mine, wanted = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, os.getppid()))
    if mine > wanted:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "role_niced",
            expected=f"actors on {host} with the niceness of their raylet, {wanted}",
            got=str(mine),
            todo="start Ray there with RAY_worker_niceness=0 in its environment, as `treni-route cluster init` does",
        )


def _state() -> Path:
    """The folder that the host's environment names, or one of the user's."""
    if named := os.environ.get(STATE_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "treni-route"


async def _bound(settings: RoleSettings) -> RoleServer:
    """The role at its ports, once whoever ends there has let go of them."""
    servicer = await asyncio.to_thread(evidence_servicer, settings)
    began_s = time.monotonic()
    while True:
        try:
            return await start_role(settings, servicer)
        except TreniError as error:
            if error.kind != "address_not_bound" or time.monotonic() - began_s > BIND_LIMIT_S:
                raise
        await asyncio.sleep(RETRY_S)
