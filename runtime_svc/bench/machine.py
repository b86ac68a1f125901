"""What this machine is, for a report: nothing that names a host, a user or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from runtime_svc.bench.record import Gpu, Machine

_PACKAGES = (
    "numpy",
    "cupy-cuda13x",
    "nvidia-cublas",
    "nvidia-cuda-nvrtc",
    "safetensors",
    "tokenizers",
    "grpcio",
)
_QUERY = (
    "name,driver_version,memory.total,memory.used,clocks.max.sm,clocks.max.mem,power.limit,persistence_mode"
)


def machine() -> Machine:
    """The machine as it is now. `gpu` is None where `nvidia-smi` finds no card."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name)) is not None},
        commit=_commit(Path(__file__).parent),
        load=os.getloadavg()[0],
        gpu=gpu(),
    )


def gpu() -> Gpu | None:
    """The first card."""
    line = _query(_QUERY)
    return None if line is None else parse_gpu(line)


def sm_clock_mhz() -> int | None:
    """What the first card's multiprocessors run at now; None without one."""
    line = _query("clocks.sm")
    return None if line is None else int(_number(line))


def parse_gpu(line: str) -> Gpu:
    """One line of what `nvidia-smi` answers to the query; a value that the card does not tell is 0."""
    name, driver, *numbers, persistence = (part.strip() for part in line.split(","))
    memory, used, sm, memory_clock, power = (_number(text) for text in numbers)
    return Gpu(
        name=name,
        driver=driver,
        memory_mib=int(memory),
        memory_used_mib=int(used),
        max_sm_clock_mhz=int(sm),
        max_memory_clock_mhz=int(memory_clock),
        power_limit_w=power,
        persistence_mode=persistence == "Enabled",
    )


def _query(names: str) -> str | None:
    return _output(["nvidia-smi", f"--query-gpu={names}", "--format=csv,noheader,nounits", "--id=0"])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return 0.0


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit(folder: Path) -> str | None:
    """That the code is of; "-dirty" behind it when tracked files differ from it."""
    return _output(
        [
            "git",
            "--no-optional-locks",
            "-C",
            str(folder),
            "describe",
            "--always",
            "--dirty",
            "--abbrev=40",
            "--exclude=*",
        ]
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _output(command: Sequence[str]) -> str | None:
    """The first line of what it prints; None when it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    return lines[0] if lines else None
