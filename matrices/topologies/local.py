"""The topology of one machine: for each segment of a cell its own toxiproxy, tools, runtimes and controller."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from chaos.deliveries import read_deliveries
from chaos.faults import FAULTS
from chaos.toxiproxy import ToxiproxyServer
from matrices.arms.parts import Part
from matrices.evidence.campaign import Campaign, Options
from matrices.planning.plan import PlannedCell
from matrices.topologies.processes import Child, start_child
from matrices.topologies.role_command import HOST
from matrices.topologies.roles import deliveries_path
from matrices.topologies.supervisor import Ward
from matrices.topologies.topology import TopologyEntry, kind_of, scope_of
from treni.channels import showing
from treni.door_options import UNGUARDED, DoorSettings
from treni.errors import TreniError, invalid_argument
from treni.keys import new_key_file
from treni.metrics_page import asked, listed

PROXY = "toxiproxy"

KEYS = "keys"
"""The argument of the topology that has its services behind a key."""


class LocalPlaced:
    """Processes on this machine that end with the segment; proxies only where something may be faulted."""

    foreign = False

    def __init__(
        self,
        *,
        cell: PlannedCell,
        folder: Path,
        toxiproxy: ToxiproxyServer | None,
        children: Mapping[str, Child],
        agent: Child | None,
    ) -> None:
        self._cell = cell
        self._folder = folder
        self._toxiproxy = toxiproxy
        self._children = children
        self.scope = ""
        self.addresses = {role: child.address for role, child in children.items()}
        self.toxiproxy_address = "" if toxiproxy is None else toxiproxy.address
        self.host_of = dict.fromkeys(children, HOST)
        self.host_agents = {} if agent is None else {HOST: agent.address}

    @property
    def own_pids(self) -> dict[str, int]:
        """The toxiproxy server's process, where it is one of ours."""
        if self._toxiproxy is None or self._toxiproxy.pid is None:
            return {}
        return {PROXY: self._toxiproxy.pid}

    def deaths(self) -> dict[str, str]:
        """How processes ended."""
        ended = {role: child.death() for role, child in self._children.items()}
        ended[PROXY] = None if self._toxiproxy is None else self._toxiproxy.death()
        return {role: death for role, death in ended.items() if death is not None}

    def wards(self, again: Callable[[str], Awaitable[None]]) -> dict[str, Ward]:
        """A ward for each role that the cell's schedule may kill, told to come back where it serves now."""
        if not any(kind.kills_host for kind in self._cell.kinds):
            return {}
        wards = {}
        for arm in self._cell.comparison:
            role = arm.tools
            child = self._children[role]
            # Of an option that is given twice the last one counts.
            child.arguments = (*child.arguments, "--port", child.address.rpartition(":")[2])
            crashes = partial(_crashes, deliveries_path(self._folder, role, arm.name))
            wards[role] = Ward(child, crashes, partial(again, role))
        return wards


class Local:
    """Starts everything here, anew for each segment.

    With `keys`, behind a key that is drawn for the segment, which other users of this machine do not have.
    """

    def __init__(self, *, keys: bool = False) -> None:
        self._keys = keys

    def refuse(self, campaign: Campaign) -> None:
        """Raises INVALID_ARGUMENT for faults of a link: there is none between processes of one machine."""
        for cell in campaign.cells:
            if linked := sorted(kind.name for kind in cell.kinds if kind.on_link):
                raise invalid_argument(
                    "fault_not_here",
                    expected="faults that one machine can have",
                    got=f"{cell.name} with {', '.join(linked)}, which strikes the link to another host",
                    todo="use --topology hosts.toml with two hosts or more",
                )

    @asynccontextmanager
    async def place(
        self, cell: PlannedCell, campaign: Campaign, *, session: str, take: int
    ) -> AsyncIterator[LocalPlaced]:
        """Fresh processes, all started at once; they are gone when the block is left."""
        folder = campaign.folder / "cells" / scope_of(cell, take)
        folder.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            doors = stack.enter_context(_doors()) if self._keys else UNGUARDED
            toxiproxy = None
            if not cell.alone:
                toxiproxy = await stack.enter_async_context(await _toxiproxy(campaign.options, folder))
            agent = None
            if cell.disturbs:
                # Before those that it may start again, and so ended after them.
                agent = await start_child(
                    HOST, _serving(HOST, folder, doors), log_path=folder / f"{HOST}.log"
                )
                stack.push_async_callback(agent.stop)
                stack.callback(listed(HOST, agent.ready))
            # The last is ended first: the controller before what it calls.
            children = await _start_roles(cell.parts, campaign.options, folder, doors, stack)
            yield LocalPlaced(cell=cell, folder=folder, toxiproxy=toxiproxy, children=children, agent=agent)


def _settings(argument: str | None) -> dict[str, Any]:
    """Whether there are keys. Raises INVALID_ARGUMENT for any other argument."""
    if argument not in (None, KEYS):
        raise invalid_argument(
            "topology_argument", expected=f"{KEYS}, or nothing, after the topology local", got=repr(argument)
        )
    return {} if argument is None else {KEYS: True}


ENTRY = TopologyEntry(
    name="local",
    settings=_settings,
    build=lambda settings: Local(keys=bool(settings.get(KEYS, False))),
    replicas=lambda settings, asked: asked,
)


def _crashes(deliveries: Path) -> int:
    """How many faults that end their host were handed out, by a delivery log."""
    return sum(FAULTS[delivery.kind].kills_host for delivery in read_deliveries(deliveries))


async def _toxiproxy(options: Options, folder: Path) -> ToxiproxyServer:
    if options.toxiproxy is not None:
        return await ToxiproxyServer.attach(options.toxiproxy)
    return await ToxiproxyServer.start(log_path=folder / "toxiproxy.log")


@contextmanager
def _doors() -> Iterator[DoorSettings]:
    """The doors of a segment and what is shown there, its key in a file that is gone when the block is left."""
    with tempfile.TemporaryDirectory(prefix="treni-key-") as scratch:
        doors = DoorSettings(key_file=new_key_file(Path(scratch, "key")))
        with showing(doors.keyring):
            yield doors


def _serving(role: str, folder: Path, doors: DoorSettings) -> list[str]:
    return [
        *("-m", "matrices.topologies.serve", role),
        *("--state", str(folder), "--parent-pid", str(os.getpid()), *doors.arguments, *asked()),
    ]


def _arguments(part: Part, options: Options, folder: Path, doors: DoorSettings) -> list[str]:
    kind = kind_of(part)
    arguments = _serving(kind, folder, doors)
    if part.tooled is not None:
        arguments += options.tooling.options
    if kind in ("agent", "runtime"):
        arguments += ["--backend", options.backend]
        if options.model_dir is not None:
            arguments += ["--model", options.model_dir]
    return arguments


async def _start_roles(
    parts: Mapping[str, Part], options: Options, folder: Path, doors: DoorSettings, stack: AsyncExitStack
) -> dict[str, Child]:
    children: dict[str, Child] = {}

    async def start(role: str) -> None:
        children[role] = await start_child(
            role, _arguments(parts[role], options, folder, doors), log_path=folder / f"{role}.log"
        )
        stack.callback(listed(role, children[role].ready))

    async def stop() -> None:
        for role in reversed(list(parts)):
            if role in children:
                await children[role].stop()

    stack.push_async_callback(stop)
    try:
        async with asyncio.TaskGroup() as group:
            for role in parts:
                group.create_task(start(role))
    except BaseExceptionGroup as failed:
        # A start that is called off because another failed may fail in a way of its own; the cause is the other's.
        causes, others = failed.split(TreniError)
        if causes is None:
            raise
        cause = causes.exceptions[0]
        for other in [] if others is None else others.exceptions:
            cause.add_note(f"while the others were called off: {other!r}")
        raise cause from None
    return {role: children[role] for role in parts}
