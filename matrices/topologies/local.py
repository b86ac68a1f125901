"""The one-machine topology of a cell: toxiproxy, tools, runtime and controller as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psutil

from chaos.deliveries import DeliveryLog, read_deliveries
from chaos.faults import FAULTS
from chaos.lanes import open_lanes
from chaos.toxiproxy import ToxiproxyServer
from matrices.arms.parts import Part
from matrices.evidence import events as ev
from matrices.evidence.campaign import Campaign
from matrices.planning.plan import PlannedCell
from matrices.topologies.processes import Child, start_child
from matrices.topologies.supervisor import Ward
from tools_svc.ledger_append import read_effects
from treni.channels import open_channel
from treni.errors import TreniError
from treni.v1 import inference_pb2, inference_pb2_grpc

INFO_TIMEOUT_S = 60.0


class LocalTopology:
    """A cell's running processes; both arms by address. Use `LocalTopology.start`."""

    def __init__(
        self,
        *,
        folder: Path,
        cell: PlannedCell,
        toxiproxy: ToxiproxyServer,
        children: Mapping[str, Child],
        wards: Mapping[str, Ward],
        info: inference_pb2.InfoResponse,
    ) -> None:
        self._folder = folder
        self._arms = cell.comparison
        self._toxiproxy = toxiproxy
        self._children = children
        self._deaths: dict[str, str] = {}
        self.wards = wards
        self.info = info

    @classmethod
    @asynccontextmanager
    async def start(
        cls, cell: PlannedCell, campaign: Campaign, counters: Mapping[str, int]
    ) -> AsyncIterator[LocalTopology]:
        """The cell's processes while the block runs: the controller ends first, then what it calls.

        `counters` gives, for each of the cell's counts of attempts, the number to start from. Raises
        UNAVAILABLE if one of them does not come up.
        """
        folder = campaign.folder / "cells" / cell.name
        folder.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            toxiproxy = await stack.enter_async_context(await _toxiproxy(campaign, folder))
            configs = _configs(cell, campaign, counters, folder)
            callers = {
                role: part.agent for role, part in cell.parts.items() if part.agent and part.agent.hops
            }
            children = await _start_roles(configs, tuple(configs.keys() - callers), folder, stack)
            for role, arm in callers.items():
                configs[role] |= {
                    "model_address": children[arm.model].address if "model" in arm.hops else "",
                    "tools_address": children[arm.tools].address if "tool" in arm.hops else "",
                    "toxiproxy_address": toxiproxy.address,
                }
            children |= await _start_roles(configs, tuple(callers), folder, stack)
            info = await _info(children[cell.comparison.baseline.model].address)
            wards = _wards(cell, children, configs, folder)
            topology = cls(
                folder=folder, cell=cell, toxiproxy=toxiproxy, children=children, wards=wards, info=info
            )
            try:
                yield topology
            finally:
                topology.note_deaths()

    def address(self, arm: str) -> str:
        """Where the arm's AgentService answers."""
        return self._children[self._arms.arm(arm).agent].address

    @asynccontextmanager
    async def lanes(self, cell: PlannedCell) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
        """Channels to the agents with a lane for each fault of the client's calls, by arm; none where there is none."""
        schedule = next((one for one in cell.schedules if one.hop == "agent" and one.rules), None)
        channels: dict[str, grpc.aio.Channel] = {}
        async with AsyncExitStack() as stack:
            for arm in cell.arms if schedule is not None else ():
                log = stack.enter_context(DeliveryLog(_deliveries_path(self._folder, arm)))
                opening = open_lanes(
                    self._toxiproxy.address,
                    hop="agent",
                    upstream=self.address(arm),
                    schedule=schedule,
                    deliveries=log,
                )
                channels[arm] = await stack.enter_async_context(opening)
            yield channels

    @property
    def addresses(self) -> dict[str, str]:
        """Where each role serves; a role that comes back serves there again."""
        return {role: child.address for role, child in self._children.items()}

    @property
    def rss_mb(self) -> dict[str, float]:
        """The resident memory in MiB of each role that runs."""
        sizes = {}
        for role, child in self._children.items():
            with suppress(psutil.Error):
                sizes[role] = round(psutil.Process(child.pid).memory_info().rss / 2**20, 1)
        return sizes

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role."""
        pids = {role: child.pid for role, child in self._children.items()}
        return pids if self._toxiproxy.pid is None else {**pids, "toxiproxy": self._toxiproxy.pid}

    @property
    def toxiproxy_version(self) -> str:
        """The version that the toxiproxy server says it is."""
        return self._toxiproxy.version

    def note_deaths(self) -> list[str]:
        """How processes ended that should be running, as far as that is known by now; the first word stands.

        A role that died of a planned fault and is to come back is no such process.
        """
        deaths = {role: child.death() for role, child in self._children.items()}
        for role, death in {**deaths, "toxiproxy": self._toxiproxy.death()}.items():
            ward = self.wards.get(role)
            if death is not None and (ward is None or not ward.excused):
                self._deaths.setdefault(role, death)
        return self.deaths

    def give_up(self, role: str, why: str) -> None:
        """Notes that a role is as good as dead."""
        self._deaths.setdefault(role, f"{role} {why}")

    def is_gone(self, role: str) -> bool:
        """Whether the role is dead for good."""
        self.note_deaths()
        return role in self._deaths

    @property
    def deaths(self) -> list[str]:
        """The deaths noted while the topology was up."""
        return list(self._deaths.values())

    def deliveries(self, arm: str) -> tuple[ev.Delivery, ...]:
        """Every fault that the chaos layer handed to the arm, warm-up left out, over all starts of this cell."""
        return tuple(
            ev.Delivery(**asdict(row))
            for log in self._arms.names
            for row in read_deliveries(_deliveries_path(self._folder, log))
            if self._is_of(row.run_id, arm, log)
        )

    def effects(self, arm: str) -> tuple[ev.EffectRow, ...]:
        """Every row in the ledger of the arm's tools, warm-up left out, over all starts of this cell."""
        return tuple(
            ev.EffectRow(
                run_id=row.run_id,
                task_id=row.task_id,
                attempt=row.attempt,
                idempotency_key=row.idempotency_key,
                account=row.account,
                amount=row.amount,
            )
            for row in read_effects(_ledger_path(self._folder, arm))
            if self._is_of(row.run_id, arm, arm)
        )

    def _is_of(self, run_id: str, arm: str, log: str) -> bool:
        """Whether a row in the log of the arm `log` is of that arm: the run's id says it, or else the log.

        The runner names what is outside the plan cell/warmup/arm/start.
        """
        _, pair, named, *_ = [*run_id.split("/"), "", "", ""]
        return pair != "warmup" and (named if named in self._arms.names else log) == arm


def _ledger_path(folder: Path, arm: str) -> Path:
    return folder / f"ledger-{arm}.sqlite"


def _deliveries_path(folder: Path, arm: str) -> Path:
    return folder / f"deliveries-{arm}.jsonl"


def _configs(
    cell: PlannedCell, campaign: Campaign, counters: Mapping[str, int], folder: Path
) -> dict[str, dict[str, Any]]:
    """What each role is told; addresses are added as they become known.

    Files are named from the folder in which a role finds its config: a campaign's folder tells nothing of where it
    lay, and may be moved.
    """
    options = campaign.options

    def of_part(part: Part) -> dict[str, Any]:
        arm = part.arm.name
        # What is delivered on the hop to the model is the callers'; whose it is, its run's id tells.
        callers = part.callers or (part.arm,)
        return {
            "agent": None if part.agent is None else part.agent.recorded_as,
            "model": bool(part.modelled),
            "tools": part.tooled is not None,
            "faultable": [] if part.agent is None else sorted(part.agent.faultable),
            "hop_deliveries": _deliveries_path(folder, callers[0].name).name,
            "parent_pid": os.getpid(),
            "cell": cell.name,
            "profile": cell.profile.model_dump(mode="json"),
            "cycle": cell.cycle,
            "seed": options.seed,
            "concurrency": options.concurrency,
            "starts": {counter.hop: counters[counter.key] for counter in cell.counters if counter.arm == arm},
            "ledger": _ledger_path(folder, arm).name,
            "deliveries": _deliveries_path(folder, arm).name,
            "port": 0,
            "model_dir": options.model_dir,
            "backend": options.backend,
        }

    return {role: of_part(part) for role, part in cell.parts.items()}


def _wards(
    cell: PlannedCell, children: Mapping[str, Child], configs: dict[str, dict[str, Any]], folder: Path
) -> dict[str, Ward]:
    """A ward for each role that the cell's schedule may kill, told to come back where it serves now."""
    wards: dict[str, Ward] = {}
    if not any(kind.kills_host for kind in cell.kinds):
        return wards
    for arm in cell.comparison:
        role = arm.tools
        configs[role]["port"] = int(children[role].address.rsplit(":", 1)[1])
        _write_config(configs, role, folder)
        wards[role] = Ward(children[role], partial(_crashes, _deliveries_path(folder, arm.name)))
    return wards


def _crashes(deliveries: Path) -> int:
    """How many faults that end their host were handed out, by a delivery log."""
    return sum(FAULTS[delivery.kind].kills_host for delivery in read_deliveries(deliveries))


def _write_config(configs: Mapping[str, Mapping[str, Any]], role: str, folder: Path) -> Path:
    path = folder / f"{role}.json"
    path.write_text(json.dumps(configs[role], indent=2), encoding="utf-8")
    return path


async def _toxiproxy(campaign: Campaign, folder: Path) -> ToxiproxyServer:
    address = campaign.options.toxiproxy
    if address is not None:
        return await ToxiproxyServer.attach(address)
    return await ToxiproxyServer.start(log_path=folder / "toxiproxy.log")


async def _start_roles(
    configs: Mapping[str, Mapping[str, Any]], roles: tuple[str, ...], folder: Path, stack: AsyncExitStack
) -> dict[str, Child]:
    async def start(role: str) -> Child:
        arguments = ["-m", "matrices.topologies.serve", role, str(_write_config(configs, role, folder))]
        child = await start_child(role, arguments, log_path=folder / f"{role}.log")
        stack.push_async_callback(child.stop)
        return child

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {role: group.create_task(start(role)) for role in roles}
    except BaseExceptionGroup as failed:
        # A start that is called off because another failed may fail in a way of its own; the cause is the other's.
        causes, others = failed.split(TreniError)
        if causes is None:
            raise
        cause = causes.exceptions[0]
        for other in [] if others is None else others.exceptions:
            cause.add_note(f"while the others were called off: {other!r}")
        raise cause from None
    return {role: task.result() for role, task in tasks.items()}


async def _info(address: str) -> inference_pb2.InfoResponse:
    async with open_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        return await stub.Info(inference_pb2.InfoRequest(), timeout=INFO_TIMEOUT_S)
