"""What the machine was doing while a block ran: load, steal, and what other processes took."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import psutil


class ConditionsProbe:
    """Reads the machine's conditions as differences between two calls of `read`.

    `pids` says which processes of the experiment run at the moment; processor time that neither they nor this
    process nor its children that ended used, and that was not idle or stolen, counts as other.
    """

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._last_cpu = psutil.cpu_times()
        self._last_own_s = own_cpu_s(pids())

    def read(self) -> dict[str, Any]:
        """Conditions since the last call (fractions of all processor time) and the load average now."""
        cpu, own_s = psutil.cpu_times(), own_cpu_s(self._pids())
        delta = {name: getattr(cpu, name) - getattr(self._last_cpu, name) for name in cpu._fields}
        # guest time is counted in user time already (proc(5)).
        total_s = sum(v for name, v in delta.items() if name not in ("guest", "guest_nice"))
        idle_s = delta["idle"] + delta["iowait"]
        steal_s = delta.get("steal", 0.0)
        own_delta_s = max(0.0, own_s - self._last_own_s)
        self._last_cpu, self._last_own_s = cpu, own_s
        if total_s <= 0:
            return {"load1": os.getloadavg()[0], "steal_fraction": 0.0, "other_cpu_fraction": 0.0}
        other_s = max(0.0, total_s - idle_s - steal_s - own_delta_s)
        return {
            "load1": os.getloadavg()[0],
            "steal_fraction": round(max(0.0, steal_s) / total_s, 4),
            "other_cpu_fraction": round(other_s / total_s, 4),
        }


def own_cpu_s(pids: Iterable[int]) -> float:
    """The processor seconds of this process, of its children that ended, and of the processes that run."""
    own = psutil.Process().cpu_times()
    # What a child used is not lost when it dies: a role that crashes and comes back is one of ours all along.
    total_s = float(own.user + own.system + own.children_user + own.children_system)
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total_s += times.user + times.system
    return total_s
