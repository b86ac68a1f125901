"""What one process can tell of itself and of its machine: counters that grow, and the clock."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

import psutil

from treni.v1 import evidence_pb2

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_GPU_QUERY = ("--query-compute-apps=pid", "--format=csv,noheader")
_GPU_QUERY_S = 10.0


@cache
def boot() -> str:
    """A name that all processes of one running kernel share, and no others."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux: as good as can be
        return f"{platform.node()}-{psutil.boot_time():.0f}"


def own_cpu_s() -> float:
    """Processor seconds of this process and of its children that ended."""
    # What a child used is not lost when it dies: a role that crashes and comes back is one of ours all along.
    own = psutil.Process().cpu_times()
    return float(own.user + own.system + own.children_user + own.children_system)


def machine(*, gpu: bool = False) -> evidence_pb2.Machine:
    """The state of this machine now; with `gpu`, how many processes compute on its GPUs too."""
    cpu = psutil.cpu_times()
    # guest time is counted in user time already (proc(5)).
    total_s = sum(getattr(cpu, name) for name in cpu._fields if name not in ("guest", "guest_nice"))
    return evidence_pb2.Machine(
        name=platform.node(),
        boot=boot(),
        load1=os.getloadavg()[0],
        cpu_s=total_s,
        idle_s=cpu.idle + getattr(cpu, "iowait", 0.0),
        steal_s=getattr(cpu, "steal", 0.0),
        processors=os.cpu_count() or 1,
        gpu_processes=_gpu_processes() if gpu else 0,
        wall_s=time.time(),
    )


def _gpu_processes() -> int:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    try:
        done = subprocess.run(
            [program, *_GPU_QUERY], capture_output=True, text=True, timeout=_GPU_QUERY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(done.stdout.split())
