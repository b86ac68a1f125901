"""What the machines were doing while a block ran: load, steal, what other processes took, and how clocks lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from matrices.topologies.machine import machine, own_cpu_s
from matrices.topologies.role_client import Reading
from treni.v1 import evidence_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One machine over a while: shares of all its processor time, and its load average at the end of it."""

    load1: float
    steal_fraction: float
    other_cpu_fraction: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counters:
    """One machine at a moment, and how much processor time the experiment's processes there had used by then."""

    machine: evidence_pb2.Machine
    own_s: float


class ConditionsProbe:
    """Makes conditions out of what the roles read of themselves, as differences between two calls of `conditions`.

    `pids` are processes on this machine that are neither roles nor this one. Processor time of a machine that none of
    the experiment's processes used, and that was not idle or stolen, counts as other.
    """

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = tuple(pids)
        self._last: dict[str, _Counters] = {}

    def conditions(self, readings: Mapping[str, Reading]) -> dict[str, Any]:
        """Conditions since the last call; at the first, and for a machine seen first, those of no time.

        With several machines each figure is the largest of them, and those of each follow under their names.
        `clock_offset_s` is what has to be added to the harness's wall clock to get a role's, known to `clock_error_s`.
        """
        now = self._counters(readings)
        loads = {boot: load(self._last.get(boot, counters), counters) for boot, counters in now.items()}
        self._last |= now
        conditions: dict[str, Any] = {
            name: max(getattr(one, name) for one in loads.values())
            for name in ("load1", "steal_fraction", "other_cpu_fraction")
        }
        if len(loads) > 1:
            names = _names({boot: counters.machine.name for boot, counters in now.items()})
            for name in ("load1", "steal_fraction", "other_cpu_fraction"):
                conditions[f"by_host_{name}"] = {
                    names[boot]: getattr(one, name) for boot, one in loads.items()
                }
        if gpu := {
            role: one.status.machine.gpu_processes
            for role, one in readings.items()
            if one.status.machine.gpu_processes
        }:
            conditions["gpu_processes"] = gpu
        conditions["clock_offset_s"] = {role: round(one.offset_s, 6) for role, one in readings.items()}
        conditions["clock_error_s"] = {role: round(one.error_s, 6) for role, one in readings.items()}
        return conditions

    def _counters(self, readings: Mapping[str, Reading]) -> dict[str, _Counters]:
        here = machine()
        own_s = {here.boot: own_cpu_s() + sum(map(_cpu_s, self._pids))}
        machines = {here.boot: here}
        for one in readings.values():
            boot = one.status.machine.boot
            machines.setdefault(boot, one.status.machine)
            own_s[boot] = own_s.get(boot, 0.0) + one.status.cpu_s
        return {boot: _Counters(machine=machines[boot], own_s=own_s[boot]) for boot in machines}


def load(before: _Counters, after: _Counters) -> Load:
    """What the machine did between two moments."""
    total_s = after.machine.cpu_s - before.machine.cpu_s
    if total_s <= 0:
        return Load(load1=after.machine.load1, steal_fraction=0.0, other_cpu_fraction=0.0)
    idle_s = after.machine.idle_s - before.machine.idle_s
    steal_s = max(0.0, after.machine.steal_s - before.machine.steal_s)
    own_s = max(0.0, after.own_s - before.own_s)
    other_s = max(0.0, total_s - idle_s - steal_s - own_s)
    return Load(
        load1=after.machine.load1,
        steal_fraction=round(steal_s / total_s, 4),
        other_cpu_fraction=round(other_s / total_s, 4),
    )


def _names(names: Mapping[str, str]) -> dict[str, str]:
    """A name for each machine by boot; two of one name are told apart by their boots."""
    counted = list(names.values())
    return {
        boot: name if counted.count(name) == 1 else f"{name} ({boot[:8]})" for boot, name in names.items()
    }


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
