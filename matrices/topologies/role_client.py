"""The harness's side of `EvidenceService`: one role, wherever it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from matrices.evidence import events as ev
from matrices.topologies.cell_config import CellConfig
from matrices.topologies.clocks import estimate, exchange
from matrices.topologies.processes import START_TIMEOUT_S
from treni.channels import diagnosis, open_channel, unreachable
from treni.errors import Code, TreniError, from_rpc_error
from treni.handshakes import HUNG_UP, reason_of
from treni.v1 import evidence_pb2, evidence_pb2_grpc

STATUS_TIMEOUT_S = 10.0
EVIDENCE_TIMEOUT_S = 600.0
"""The limit of an answer with evidence, for a host that hangs: a ledger of many thousand rows takes seconds."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a role said of itself, and how its machine's clock lies to ours.

    `offset_s` is what has to be added to our wall clock to get its, known to `error_s`: half the round trip, as in NTP
    (RFC 5905, section 8).
    """

    status: evidence_pb2.StatusResponse
    offset_s: float
    error_s: float


class RoleClient:
    """A channel to the EvidenceService of one role; `role` is what it is called in the cell.

    `epoch`, `pid` and `service` (the address of the role's own service) are those of the last `begin`.
    """

    def __init__(self, role: str, address: str) -> None:
        self.role = role
        self.address = address
        self.epoch = ""
        self.pid = 0
        self.service = ""
        self._channel = open_channel(address)
        self._hold: grpc.aio.UnaryStreamCall[Any, Any] | None = None
        self._stub = evidence_pb2_grpc.EvidenceServiceStub(self._channel)

    async def hold(self, session: str) -> None:
        """Keeps other campaigns away from the role until `close`, or until this process is gone."""
        self._hold = self._stub.Hold(evidence_pb2.HoldRequest(session=session))
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                await self._hold.read()
        except grpc.aio.AioRpcError as error:
            raise await self._failed(error) from None
        except TimeoutError:
            raise TreniError(
                Code.UNAVAILABLE,
                "service_silent",
                expected=f"the {self.role} to answer at {self.address} within {STATUS_TIMEOUT_S:.0f} s",
                got="nothing",
                todo="see that it runs, and that the address is right",
            ) from None

    async def read(self, *, timeout_s: float = STATUS_TIMEOUT_S) -> Reading:
        """The role's status now. Raises `TreniError`, UNAVAILABLE where nobody answers."""
        sent_s, before_s = time.time(), time.perf_counter()
        status = await self._ask(self._stub.Status(evidence_pb2.StatusRequest(), timeout=timeout_s))
        round_trip_s = time.perf_counter() - before_s
        return Reading(
            status=status,
            offset_s=status.machine.wall_s - (sent_s + round_trip_s / 2),
            error_s=round_trip_s / 2,
        )

    async def clock(self) -> ev.Clock:
        """How the clocks of its process lie to ours, by many exchanges."""
        return estimate(
            await exchange(
                lambda: self._ask(self._stub.Clock(evidence_pb2.ClockRequest(), timeout=STATUS_TIMEOUT_S))
            )
        )

    async def begin(self, session: str, scope: str, config: CellConfig, *, continues: bool) -> None:
        """Opens the role's own service for a cell. Raises `TreniError` with the cause on that side."""
        request = evidence_pb2.BeginRequest(
            session=session, scope=scope, continues=continues, config_json=config.model_dump_json()
        )
        begun = await self._ask(self._stub.Begin(request, timeout=START_TIMEOUT_S, wait_for_ready=False))
        self.epoch, self.pid = begun.epoch, begun.pid
        self.service = f"{self.address.rpartition(':')[0]}:{begun.port}"

    async def end(self, session: str) -> None:
        """Closes the role's own service; its evidence can still be asked for."""
        await self._ask(self._stub.End(evidence_pb2.EndRequest(session=session), timeout=START_TIMEOUT_S))

    async def release(self, session: str) -> None:
        """Closes the role's own service and whatever else runs for the session; of no matter where it is gone."""
        request = evidence_pb2.EndRequest(session=session, release=True)
        with suppress(grpc.aio.AioRpcError):
            await self._stub.End(request, timeout=STATUS_TIMEOUT_S)

    async def twin(self, session: str) -> str:
        """The address of another process like it, on its host."""
        response = await self._ask(
            self._stub.Twin(evidence_pb2.TwinRequest(session=session), timeout=START_TIMEOUT_S)
        )
        return f"{self.address.rpartition(':')[0]}:{response.port}"

    async def deliveries(self, scope: str) -> list[tuple[str, ev.Delivery]]:
        """Every fault that it handed out under the scope, each after the arm that met it."""
        stream = self._stub.Deliveries(
            evidence_pb2.EvidenceRequest(scope=scope, role=self.role), timeout=EVIDENCE_TIMEOUT_S
        )
        try:
            return [
                (
                    row.arm,
                    ev.Delivery(
                        fault_id=row.fault_id,
                        site=row.site,
                        hop=row.hop,
                        kind=row.kind,
                        how=row.how,
                        run_id=row.run_id,
                        attempt=row.attempt,
                    ),
                )
                async for row in stream
            ]
        except grpc.aio.AioRpcError as error:
            raise await self._failed(error) from None

    async def effects(self, scope: str) -> list[ev.EffectRow]:
        """Every entry in its tools' ledger under the scope."""
        stream = self._stub.Effects(
            evidence_pb2.EvidenceRequest(scope=scope, role=self.role), timeout=EVIDENCE_TIMEOUT_S
        )
        try:
            return [
                ev.EffectRow(
                    run_id=row.run_id,
                    task_id=row.task_id,
                    attempt=row.attempt,
                    idempotency_key=row.idempotency_key,
                    account=row.account,
                    amount=row.amount,
                )
                async for row in stream
            ]
        except grpc.aio.AioRpcError as error:
            raise await self._failed(error) from None

    async def close(self) -> None:
        """Closes the channel, and lets the role go."""
        if self._hold is not None:
            self._hold.cancel()
        await self._channel.close()

    async def _ask(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise await self._failed(error) from None

    async def _failed(self, error: grpc.aio.AioRpcError) -> TreniError:
        told = from_rpc_error(error, hop="")
        if not told.foreign:
            return told  # the role itself says what is wrong
        where = f"the {self.role} at {self.address}"
        reason = reason_of(error.details() or "")
        if reason is None and HUNG_UP in (error.details() or ""):
            reason = await asyncio.to_thread(diagnosis, self.address)
        if reason is not None:
            return unreachable(reason, where)
        return TreniError(
            told.code,
            "service_unreachable",
            expected=f"{where} to answer",
            got=f"{error.code().name}: {error.details()}",
            todo="see that it runs, was started with --testbed, and that the address is right",
        )


async def reading(client: RoleClient, *, times: int = 3) -> Reading:
    """The last status of several, with the clock as the fastest of them told it."""
    readings = [await client.read() for _ in range(times)]
    best = min(readings, key=lambda one: one.error_s)
    return Reading(status=readings[-1].status, offset_s=best.offset_s, error_s=best.error_s)


async def gathered(work: list[Awaitable[T]]) -> list[T]:
    """The results of all in order; the first error, once all others have ended too."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
