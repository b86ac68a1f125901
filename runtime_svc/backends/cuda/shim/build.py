"""Compiles a kernel file with the C++ compiler over `shim.h`, and calls its kernels on NumPy arrays.

For tests and for reading: the same source as on the device, thousands of times slower.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime_svc.backends.cuda.shim.compiler import compiler
from treni.errors import Code, TreniError

_HERE = Path(__file__).parent
KERNELS = _HERE.parent / "kernels"

_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-ffp-contract=off", "-w")


def compiled(source: Path, defines: Mapping[str, int], directory: Path) -> Path:
    """The shared library of `source` with these macros, in `directory`; compiled only if it is not there."""
    macros = [f"-D{name}={value}" for name, value in sorted(defines.items())]
    digest = hashlib.sha256("\0".join(macros).encode())
    for file in (*sorted(KERNELS.glob("*.cu*")), _HERE / "shim.h", source):
        digest.update(file.read_bytes())
    library = directory / f"{source.stem}-{digest.hexdigest()[:16]}.so"
    if not library.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            built = Path(scratch) / library.name
            command = [*compiler(), *_FLAGS, *macros, "-DTRENI_SHIM", f"-I{KERNELS}"]
            command += ["-include", str(_HERE / "shim.h"), "-x", "c++", str(source), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise TreniError(
                    Code.INTERNAL,
                    "shim_not_compiled",
                    expected=f"{source.name} to compile",
                    got=done.stderr[-4000:],
                    todo="mend the kernel",
                )
            built.replace(library)
    return library


class Library:
    """The kernels of one file, on the CPU."""

    def __init__(self, source: Path, defines: Mapping[str, int], directory: Path) -> None:
        self._library = ctypes.CDLL(str(compiled(source, defines, directory)))

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        *,
        shared_bytes: int = 0,
        resident: bool = False,
        schedule: int = 0,
    ) -> None:
        """Runs `kernel` to its end. `arguments`: ctypes values or structures, and arrays as their addresses.

        `resident` runs all blocks at once, for kernels whose blocks wait for each other; `schedule` not 0 lets
        warps run in a random order of that seed. Raises `TreniError` when all threads wait.
        """
        values = [_argument(value) for value in arguments]
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        three = ctypes.c_uint * 3
        self._library.shim_schedule(ctypes.c_uint64(schedule))
        status = getattr(self._library, f"shim_{kernel}")(
            three(*grid, *[1] * (3 - len(grid))),
            three(*block, *[1] * (3 - len(block))),
            ctypes.c_size_t(shared_bytes),
            ctypes.c_int(resident),
            pointers,
        )
        if status != 0:
            raise TreniError(
                Code.INTERNAL,
                "kernel_deadlock",
                expected=f"{kernel} to end",
                got="every thread waits",
                todo="look for a barrier or a flag that nobody reaches",
            )


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise TreniError(
                Code.INVALID_ARGUMENT,
                "array_not_contiguous",
                expected="a C-contiguous array",
                got=f"strides {value.strides}",
                todo="pass a contiguous copy",
            )
        return ctypes.c_void_p(value.ctypes.data)
    return value
