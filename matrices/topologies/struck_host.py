"""What a fault can do to the services of this host: stop, kill and start them again, and touch their packets."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.faults import StruckHost
from chaos.hosts import links
from chaos.hosts.guard import Guard
from matrices.topologies.cell_config import parse_config
from matrices.topologies.role_client import RoleClient
from matrices.topologies.supervisor import RESTART_LIMIT_S, RETRY_S
from treni.errors import Code, TreniError
from treni.processes import STOP_TIMEOUT_S
from treni.v1 import host_pb2

MODULE = "matrices.topologies.serve"
"""What the command of every service runs: nothing else is ever signalled."""


BOUND = "--parent-pid"
"""What the command of a service has that ends with its parent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """How a process was started: its arguments, environment and folder."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str

    @classmethod
    def of(cls, pid: int) -> Command:
        """The command of a running service. Raises FAILED_PRECONDITION where the process is none of ours."""
        process = Path(f"/proc/{pid}")
        try:
            arguments = tuple(map(os.fsdecode, (process / "cmdline").read_bytes().split(b"\0")[:-1]))
            environment = (process / "environ").read_bytes().split(b"\0")
            folder = os.readlink(process / "cwd")
        except OSError as error:
            arguments, environment, folder = (str(error),), [], ""
        if MODULE not in arguments:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "fault_not_here",
                expected=f"process {pid} to be a service of a testbed on this host",
                got=" ".join(arguments)[:200],
                todo="start it with `treni-route serve ROLE --testbed`, seen by the same process ids",
            )
        pairs = (os.fsdecode(one).partition("=") for one in environment if one)
        return cls(
            arguments=arguments,
            environment={name: value for name, _, value in pairs},
            folder=folder,
        )

    def again(self, port: str) -> list[str]:
        """The arguments that start it once more with its EvidenceService at that port."""
        # Of an option that is given twice the last one counts.
        more = [BOUND, str(os.getpid())] if BOUND in self.arguments else []
        return [*self.arguments, "--port", port, *more]


class Hosted:
    """A service of the cell on this host, as the harness began it."""

    def __init__(self, told: host_pb2.HostedService, pid: int, log_path: Path) -> None:
        self.told = told
        self.pid = pid
        self._log_path = log_path

    @classmethod
    async def known(cls, told: host_pb2.HostedService, log_path: Path) -> Hosted:
        """The service, asked for its process. Raises FAILED_PRECONDITION for a process that is no such service."""
        client = RoleClient(told.role, told.evidence_address)
        try:
            pid = (await client.read()).status.pid
        finally:
            await client.close()
        Command.of(pid)
        return cls(told, pid, log_path)

    @property
    def parent(self) -> int:
        """The process that started the service's; 0 where that is not known."""
        try:
            told = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return 0
        return int(told.rpartition(")")[2].split()[1])

    def end(self) -> None:
        """Ends the service where we started it in place of one that ended with its parent: nobody else would."""
        process = next((one for one in _started if one.pid == self.pid), None)
        if process is not None and BOUND in process.args:  # type: ignore[operator]
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends the service's process a signal; of no matter where it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def gone(self) -> None:
        """Waits until the process has ended."""
        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(process, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(process)
            os.close(process)

    async def start(self, command: Command) -> None:
        """Starts the service as it was, by as many starts as it takes. Raises UNAVAILABLE after `RESTART_LIMIT_S`."""
        limit_s = time.monotonic() + RESTART_LIMIT_S
        port = self.told.evidence_address.rpartition(":")[2]
        while time.monotonic() < limit_s:
            process = self._start(command, port)
            assert process.stdout is not None
            if await asyncio.to_thread(process.stdout.readline):
                self.pid = process.pid
                return
            # Its port may have been taken for a moment; its log says why it did not start.
            await asyncio.sleep(RETRY_S)
        raise TreniError(
            Code.UNAVAILABLE,
            "service_not_back",
            expected=f"the {self.told.role} to serve again within {RESTART_LIMIT_S:.0f} s",
            got="it ended at each start",
            todo=f"see {self._log_path}",
        )

    def _start(self, command: Command, port: str) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            # Not asyncio's: that kills what it started when it goes, and this is to outlive us where it did before.
            process = subprocess.Popen(
                command.again(port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=command.folder,
                env=command.environment,
                start_new_session=True,
            )
        _started.append(process)
        return process

    async def begin(self) -> host_pb2.BackService:
        """Begins the cell once more at the service that came back; who it is now."""
        client = RoleClient(self.told.role, self.told.evidence_address)
        try:
            config = parse_config(self.told.config_json)
            await client.begin(self.told.session, self.told.scope, config, continues=True)
            return host_pb2.BackService(epoch=client.epoch, pid=client.pid)
        finally:
            await client.close()


_started: list[subprocess.Popen[bytes]] = []
"""Whatever was started again: somebody has to wait for it when it ends."""


class ThisHost(StruckHost):
    """The host that we are on, under one strike.

    `harmed` are the services that the strike harms, `back` those that were started again, `met` the packets.
    """

    def __init__(self, role: str, services: Mapping[str, Hosted], guard: Guard) -> None:
        self._role = role
        self._services = services
        self._guard = guard
        self.harmed: set[str] = set()
        self.back: dict[str, host_pb2.BackService] = {}
        self.met = links.Met()

    @property
    def role(self) -> str:
        """The service behind the hop."""
        return self._role

    @property
    def roles(self) -> tuple[str, ...]:
        """Every service of the cell on this host, those that call no other first."""
        return tuple(self._services)

    @asynccontextmanager
    async def paused(self, roles: Collection[str]) -> AsyncIterator[None]:
        """The services stopped (SIGSTOP), and let go on."""
        services = self._harm(roles)
        for service in services:
            Command.of(service.pid)
            await self._guard.undo_with(["kill", "-CONT", str(service.pid)])
        try:
            for service in services:
                service.send(signal.SIGSTOP)
            yield
        finally:
            for service in services:
                service.send(signal.SIGCONT)

    @asynccontextmanager
    async def killed(self, roles: Collection[str]) -> AsyncIterator[None]:
        """The services killed, then started again and the cell begun at them, those that call no other first.

        One that ends with its parent is killed with it.
        """
        pids = {service.pid for role, service in self._services.items() if role in roles}
        bound = {role for role, service in self._services.items() if service.parent in pids}
        services = self._harm({*roles, *bound})
        commands = [Command.of(service.pid) for service in services]
        try:
            for service in services:
                service.send(signal.SIGKILL)
            for service in services:
                await service.gone()
            yield
        finally:
            async with asyncio.TaskGroup() as group:
                for service, command in zip(services, commands, strict=True):
                    group.create_task(service.start(command))
            for service in services:
                self.back[service.told.role] = await service.begin()

    @asynccontextmanager
    async def dropped(
        self, roles: Collection[str], *, requests: float, answers: float
    ) -> AsyncIterator[None]:
        """Loses these shares of the packets to the services, and from them, on the link."""
        ends = self._ends(roles)
        async with links.dropped(ends, requests=requests, answers=answers, guard=self._guard, met=self.met):
            yield

    @asynccontextmanager
    async def delayed(
        self, roles: Collection[str], *, delay_s: float, jitter_s: float
    ) -> AsyncIterator[None]:
        """The packets from the services held on the link."""
        ends = self._ends(roles)
        async with links.delayed(ends, delay_s=delay_s, jitter_s=jitter_s, guard=self._guard, met=self.met):
            yield

    def _harm(self, roles: Collection[str]) -> list[Hosted]:
        self.harmed |= set(roles)
        return [service for role, service in self._services.items() if role in roles]

    def _ends(self, roles: Collection[str]) -> list[links.End]:
        return [links.End.of(service.told.service_address) for service in self._harm(roles)]
