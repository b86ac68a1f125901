"""The role "host": strikes its host as scheduled, and heals it after the set time whoever is gone by then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from chaos.deliveries import DeliveryLog
from chaos.faults import Fault, decode
from chaos.hosts.guard import Guard
from chaos.hosts.links import links_refusal
from chaos.metrics import standing
from matrices.topologies.cell_config import CellConfig
from matrices.topologies.roles import deliveries_path
from matrices.topologies.struck_host import Hosted, ThisHost
from treni import serving
from treni.doors import OPEN, Door
from treni.errors import Code, TreniError, abort, invalid_argument
from treni.v1 import host_pb2, host_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE: str = host_pb2.DESCRIPTOR.services_by_name["HostService"].full_name

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Strike:
    """One fault that struck here, as far as it has come, by this host's monotonic clock."""

    fault_id: str
    run_id: str
    host: ThisHost
    struck: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    struck_s: float | None = None
    healed_s: float | None = None
    back_s: float | None = None
    failed: str = ""

    def told(self) -> host_pb2.HostStrike:
        """The strike as of now."""
        now_s = time.monotonic()
        message = host_pb2.HostStrike(
            fault_id=self.fault_id,
            run_id=self.run_id,
            roles=sorted(self.host.harmed),
            packets=self.host.met.packets,
            back=self.host.back,
            failed=self.failed,
        )
        for name in ("struck", "healed", "back"):
            moment_s = getattr(self, f"{name}_s")
            if moment_s is not None:
                setattr(message, f"{name}_ago_s", now_s - moment_s)
        return message


class HostServicer(host_pb2_grpc.HostServiceServicer):
    """Strikes for one session; one fault at a time stands on the host. `heal` it in the end."""

    def __init__(self, log: DeliveryLog, folder: Path, guard: Guard) -> None:
        self._log = log
        self._folder = folder
        self._guard = guard
        self._services: dict[str, Hosted] = {}
        self._strikes: list[_Strike] = []
        self._turn = asyncio.Lock()
        self._over = asyncio.Event()
        self._standing: set[asyncio.Task[None]] = set()

    async def Prepare(self, request: host_pb2.PrepareRequest, context: Context) -> host_pb2.PrepareResponse:
        """The services known; refused where one of them is no process that may be struck."""
        try:
            for told in request.services:
                self._services[told.role] = await Hosted.known(told, self._folder / f"{told.role}-again.log")
        except TreniError as error:
            await abort(context, error)
        return host_pb2.PrepareResponse()

    async def Strike(self, request: host_pb2.StrikeRequest, context: Context) -> host_pb2.StrikeResponse:
        """The fault delivered, then done."""
        try:
            fault = decode(request.fault)
            if fault.site != "host" or request.role not in self._services:
                raise invalid_argument(
                    "strike_invalid",
                    expected=f"a fault of site host, at one of {', '.join(self._services)}",
                    got=f"{fault.id} of site {fault.site} at {request.role}",
                )
            await self._turn.acquire()
            strike = self._begun(fault, request)
            await asyncio.shield(strike.struck)
        except TreniError as error:
            await abort(context, error)
        return host_pb2.StrikeResponse()

    async def Strikes(self, request: host_pb2.StrikesRequest, context: Context) -> host_pb2.StrikesResponse:
        """Every strike of the session, as far as it has come."""
        done = [strike.told() for strike in self._strikes if strike.struck_s is not None or strike.failed]
        return host_pb2.StrikesResponse(strikes=done)

    async def heal(self) -> None:
        """Ends what stands before its time, waits until all of it is undone, and ends what only the cell needed."""
        self._over.set()
        await asyncio.gather(*self._standing)
        for service in self._services.values():
            await asyncio.to_thread(service.end)

    def _begun(self, fault: Fault, request: host_pb2.StrikeRequest) -> _Strike:
        """The strike on its way, its turn held until it is over."""
        try:
            if self._over.is_set():
                raise TreniError(
                    Code.FAILED_PRECONDITION,
                    "cell_over",
                    expected="a cell in progress",
                    got="its end",
                    todo="",
                )
            # Before the harm, as everywhere: a fault that cannot be told is not delivered.
            self._log.append(fault, "host", run_id=request.run_id, attempt=request.attempt)
        except BaseException:
            self._turn.release()
            raise
        strike = _Strike(
            fault_id=fault.id,
            run_id=request.run_id,
            host=ThisHost(request.role, self._services, self._guard),
        )
        self._strikes.append(strike)
        task = asyncio.create_task(self._stand(strike, fault))
        self._standing.add(task)
        task.add_done_callback(self._standing.discard)
        return strike

    async def _stand(self, strike: _Strike, fault: Fault) -> None:
        try:
            # From before the harm: who is in flight may be hurt before all of it is done.
            strike.struck_s = time.monotonic()
            async with fault.kind.at_host(strike.host):
                strike.struck.set_result(None)
                with standing(fault.kind.name), suppress(TimeoutError):
                    async with asyncio.timeout(fault.kind.outage_s):
                        await self._over.wait()
                strike.healed_s = time.monotonic()
            strike.back_s = time.monotonic()
        except BaseException as error:
            _log.exception("%s", fault.id)
            strike.failed = f"{type(error).__name__}: {error}"[:300]
            if not strike.struck.done():
                strike.struck.set_exception(_not_struck(fault, error))
            if not isinstance(error, Exception):
                raise
        finally:
            self._turn.release()


def _not_struck(fault: Fault, error: BaseException) -> TreniError:
    if isinstance(error, TreniError):
        return error
    return TreniError(
        Code.INTERNAL,
        "fault_not_applied",
        expected=f"{fault.id} to strike",
        got=f"{type(error).__name__}: {error}"[:300],
        todo="see the log of that process",
    )


@asynccontextmanager
async def open_host(config: CellConfig, folder: Path, host: str, door: Door = OPEN) -> AsyncIterator[str]:
    """Serves the HostService of a cell; what it harmed is whole again when the block is left."""
    on_link = any(rule.fault.on_link for rule in config.profile.faults.rules)
    if on_link and (refusal := links_refusal()) is not None:
        raise refusal
    guard = await Guard.start()
    try:
        with DeliveryLog(deliveries_path(folder, config.role, config.arm)) as log:
            servicer = HostServicer(log, folder, guard)

            def add(server: grpc.aio.Server) -> str:
                host_pb2_grpc.add_HostServiceServicer_to_server(servicer, server)
                return SERVICE

            server = await serving.start([add], host=host, port=config.port, door=door)
            try:
                yield server.address
            finally:
                await servicer.heal()
                await server.stop()
    finally:
        await guard.close()
