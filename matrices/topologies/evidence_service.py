"""`EvidenceService`: begins and ends a role's cells, and tells what the role delivered, recorded and used."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import psutil

from chaos.deliveries import read_deliveries
from chaos.metrics import expect
from matrices.evidence import provenance
from matrices.topologies import machine
from matrices.topologies.cell_config import CellConfig, parse_config
from matrices.topologies.processes import Child
from matrices.topologies.roles import OpenCell, deliveries_path, ledger_path
from tools_svc.ledger_append import read_effects
from treni.doors import OPEN, Door
from treni.errors import Code, TreniError, abort, invalid_argument
from treni.metrics import work_for
from treni.v1 import evidence_pb2, evidence_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE: str = evidence_pb2.DESCRIPTOR.services_by_name["EvidenceService"].full_name

MAX_TWINS = 2
"""How many further processes of a role one session may have: an A/A cell needs one, a broken host's model another."""

_SCOPE = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,99}(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,99}){0,3}")
_ROLE = re.compile(r"[a-z][a-z0-9_]{0,60}")

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Session:
    """A cell in progress: the task that serves it until `stop` is set."""

    name: str
    task: asyncio.Task[None]
    stop: asyncio.Event


class EvidenceServicer(evidence_pb2_grpc.EvidenceServiceServicer):
    """Speaks for one role in one process.

    `role` is what the process was started as, `open_cell` serves the role's own service for a cell on `host` and `port`
    (0: a free one each time) behind the `door`, `state` is the folder under which each scope has one of its own,
    `start_twin` starts another process of the same kind.
    """

    def __init__(
        self,
        *,
        role: str,
        open_cell: OpenCell,
        state: Path,
        host: str,
        port: int = 0,
        door: Door = OPEN,
        start_twin: Callable[[int], Awaitable[Child]],
        gpu: bool = False,
    ) -> None:
        self._role = role
        self._open_cell = open_cell
        self.state = state
        self._host = host
        self._port = port
        self._door = door
        self._start_twin = start_twin
        self._gpu = gpu
        self._epoch = secrets.token_hex(8)
        self._session: _Session | None = None
        self._twins: list[tuple[str, Child]] = []
        self._held: Counter[str] = Counter()
        self._changing = asyncio.Lock()

    async def Status(
        self, request: evidence_pb2.StatusRequest, context: Context
    ) -> evidence_pb2.StatusResponse:
        """What is so now."""
        session = self._session
        response = evidence_pb2.StatusResponse(
            role=self._role,
            epoch=self._epoch,
            session="" if session is None else session.name,
            pid=os.getpid(),
            cpu_s=machine.own_cpu_s(),
            rss_bytes=psutil.Process().memory_info().rss,
            versions={**provenance.versions(), "code": provenance.code()},
        )
        response.machine.CopyFrom(
            await asyncio.to_thread(machine.machine, gpu=True) if self._gpu else machine.machine()
        )
        return response

    async def Clock(self, request: evidence_pb2.ClockRequest, context: Context) -> evidence_pb2.ClockResponse:
        """Both clocks, once as the request is here and once as it is answered."""
        received_wall_s, received_mono_s = time.time(), time.monotonic()
        return evidence_pb2.ClockResponse(
            received_wall_s=received_wall_s,
            received_mono_s=received_mono_s,
            sent_wall_s=time.time(),
            sent_mono_s=time.monotonic(),
        )

    # A coroutine that writes, where the stub's type foresees a generator: one that is suspended when its call is
    # cancelled would hold the session until the garbage collector finds it.
    async def Hold(  # type: ignore[override]
        self, request: evidence_pb2.HoldRequest, context: Context
    ) -> None:
        """Holds the session for as long as the caller is there."""
        self._held[request.session] += 1
        try:
            await context.write(evidence_pb2.HoldResponse())
            await asyncio.Event().wait()
        finally:
            self._held[request.session] -= 1

    async def Begin(self, request: evidence_pb2.BeginRequest, context: Context) -> evidence_pb2.BeginResponse:
        """Serves the cell; what was in progress is ended first, whoever began it."""
        try:
            folder = self._folder(request.scope)
            config = parse_config(request.config_json)
            config = config.model_copy(update={"port": config.port or self._port})
            _check_continues(folder, config.role, request)
            async with self._changing:
                self._refuse_held(request.session)
                await self._end(but=request.session)
                folder.mkdir(parents=True, exist_ok=True)
                _config_path(folder, config.role).write_text(
                    config.model_dump_json(indent=2), encoding="utf-8"
                )
                address = await self._open(request.session, config, folder)
        except TreniError as error:
            await abort(context, error)
        except OSError as error:
            await abort(context, _state_unusable(self.state, error))
        except Exception as error:
            _log.exception("the %s did not begin", config.role)
            await abort(context, _not_begun(config.role, error))
        port = int(address.rsplit(":", 1)[1])
        return evidence_pb2.BeginResponse(epoch=self._epoch, pid=os.getpid(), port=port)

    async def End(self, request: evidence_pb2.EndRequest, context: Context) -> evidence_pb2.EndResponse:
        """Ends the session that is named; one that has ended already is no error."""
        try:
            async with self._changing:
                self._check_mine(request.session)
                await self._end(but="" if request.release else request.session)
        except TreniError as error:
            await abort(context, error)
        return evidence_pb2.EndResponse()

    async def Twin(self, request: evidence_pb2.TwinRequest, context: Context) -> evidence_pb2.TwinResponse:
        """Starts another process for a session that is in progress or about to begin, on any free port of the host."""
        try:
            async with self._changing:
                self._refuse_held(request.session)
                if sum(session == request.session for session, _ in self._twins) >= MAX_TWINS:
                    raise TreniError(
                        Code.RESOURCE_EXHAUSTED,
                        "twins_exhausted",
                        expected=f"at most {MAX_TWINS} further processes for one session",
                        got="one more",
                        todo="list another service of this role",
                    )
                twin = await self._start_twin(len(self._twins))
                self._twins.append((request.session, twin))
        except TreniError as error:
            await abort(context, error)
        except OSError as error:
            await abort(context, _state_unusable(self.state, error))
        return evidence_pb2.TwinResponse(port=int(twin.address.rsplit(":", 1)[1]))

    async def Deliveries(
        self, request: evidence_pb2.EvidenceRequest, context: Context
    ) -> AsyncIterator[evidence_pb2.DeliveryRow]:
        """The rows of every arm that the role served."""
        try:
            rows = await asyncio.to_thread(_deliveries, self._folder(request.scope), _role(request))
        except TreniError as error:
            await abort(context, error)
        for row in rows:
            yield row

    async def Effects(
        self, request: evidence_pb2.EvidenceRequest, context: Context
    ) -> AsyncIterator[evidence_pb2.EffectRow]:
        """The rows of the ledger, "seq" left out: they come in its order."""
        try:
            rows = await asyncio.to_thread(_effects, self._folder(request.scope), _role(request))
        except TreniError as error:
            await abort(context, error)
        for row in rows:
            yield row

    async def aclose(self) -> None:
        """Ends the session in progress, if there is one."""
        async with self._changing:
            await self._end()

    def _folder(self, scope: str) -> Path:
        """The scope's folder. Raises INVALID_ARGUMENT for one that could lie elsewhere."""
        if scope and _SCOPE.fullmatch(scope) is None:
            raise invalid_argument(
                "scope_invalid", expected=f"a scope matching {_SCOPE.pattern}", got=repr(scope)
            )
        return self.state / scope

    async def _open(self, name: str, config: CellConfig, folder: Path) -> str:
        """Serves a new session; its address, or what its start failed with."""
        stop = asyncio.Event()
        work_for(config.cell, {"agent": config.arm, "tool": config.arm, "model": config.caller})
        expect(config.schedules.values())
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def serve() -> None:
            # In a task of its own from beginning to end: what is entered in one task has to be left in it.
            try:
                async with self._open_cell(config, folder, self._host, self._door) as address:
                    ready.set_result(address)
                    await stop.wait()
            except Exception as error:
                if ready.done():
                    _log.exception("the service of %s did not end well", config.role)
                else:
                    ready.set_exception(error)

        # Known from here on: whoever asked may go away while it opens, and the next one has to end it.
        self._session = _Session(name=name, task=asyncio.create_task(serve()), stop=stop)
        try:
            return await asyncio.shield(ready)
        except Exception:
            self._session = None
            raise

    def _refuse_held(self, name: str) -> None:
        """Raises FAILED_PRECONDITION where a session other than that is in progress, and its harness is there."""
        session = self._session
        if session is not None and session.name != name and self._held[session.name] > 0:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "session_in_progress",
                expected=f"no other campaign at this {self._role}",
                got=f"the session {session.name}, whose harness is there",
                todo="let that campaign end, or end it",
            )

    def _check_mine(self, name: str) -> None:
        """Raises FAILED_PRECONDITION where somebody else's session is in progress."""
        if self._session is not None and self._session.name != name:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "session_replaced",
                expected=f"the session {name} to be in progress",
                got=self._session.name,
                todo="run one campaign at a time against one service",
            )

    async def _end(self, *, but: str = "") -> None:
        """Ends the session in progress, and the further processes of every session other than `but`."""
        if self._session is not None:
            self._session.stop.set()
            # Whoever asked may go away meanwhile: it winds up all the same, and the next one waits for that.
            await asyncio.shield(self._session.task)
            self._session = None
        for name, twin in list(self._twins):
            if name != but:
                await twin.stop()
                self._twins.remove((name, twin))


def make_state(state: Path) -> None:
    """The folder, made where it was not there. Raises FAILED_PRECONDITION (`state_unusable`)."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        (state / f".written-by-{os.getpid()}").touch()
        (state / f".written-by-{os.getpid()}").unlink()
    except OSError as error:
        raise _state_unusable(state, error) from None


def _config_path(folder: Path, role: str) -> Path:
    return folder / f"{role}.json"


def _role(request: evidence_pb2.EvidenceRequest) -> str:
    if _ROLE.fullmatch(request.role) is None:
        raise invalid_argument(
            "role_invalid", expected=f"a role matching {_ROLE.pattern}", got=repr(request.role)
        )
    return request.role


def _check_continues(folder: Path, role: str, request: evidence_pb2.BeginRequest) -> None:
    """Raises FAILED_PRECONDITION where evidence that the campaign still needs is not here."""
    if request.continues and not _config_path(folder, role).is_file():
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "evidence_missing",
            expected=f"the evidence of the {role}'s earlier sessions under {request.scope!r}",
            got="none in the state that this process keeps",
            todo="start the service with the --state that it had before",
        )


def _state_unusable(state: Path, error: OSError) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "state_unusable",
        expected=f"{state} to be a folder that can be written",
        got=str(error),
        todo="start the service with another --state",
    )


def _not_begun(role: str, error: Exception) -> TreniError:
    return TreniError(
        Code.INTERNAL,
        "cell_not_begun",
        expected=f"the {role} to open its service",
        got=f"{type(error).__name__}: {error}"[:300],
        todo="see the log of that process",
    )


def _deliveries(folder: Path, role: str) -> list[evidence_pb2.DeliveryRow]:
    prefix = deliveries_path(folder, role, "").stem
    return [
        evidence_pb2.DeliveryRow(arm=path.stem.removeprefix(prefix), **asdict(row))
        for path in sorted(folder.glob(f"{prefix}*.jsonl"))
        for row in read_deliveries(path)
    ]


def _effects(folder: Path, role: str) -> list[evidence_pb2.EffectRow]:
    return [
        evidence_pb2.EffectRow(
            run_id=row.run_id,
            task_id=row.task_id,
            attempt=row.attempt,
            idempotency_key=row.idempotency_key,
            account=row.account,
            amount=row.amount,
        )
        for row in read_effects(ledger_path(folder, role))
    ]
