"""The kernels' CPU build behind `cuda.device.Device`."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime_svc.backends.cuda.device import Defines
from runtime_svc.backends.cuda.driver import Argument, TensorMap
from runtime_svc.backends.cuda.shim.build import KERNELS, Library

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
GUARD, FENCE = 256, 0xA5


class HostDevice:
    multiprocessors = 2

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._libraries: dict[tuple[str, Defines], Library] = {}
        self._memory: list[tuple[Bytes, int, int]] = []
        self._one_launch = threading.Lock()
        self._schedule = 0

    def allocate(self, size: int) -> int:
        block = np.zeros(size + 3 * GUARD, np.uint8)
        start = -(-(block.ctypes.data + GUARD) // GUARD) * GUARD - block.ctypes.data
        block[:start] = block[start + size :] = FENCE
        self._memory.append((block, start, size))
        return block.ctypes.data + start

    def release(self) -> None:
        """Frees everything. Fails when something wrote before or after what it was given."""
        memory, self._memory = self._memory, []
        for block, start, size in memory:
            assert (block[:start] == FENCE).all(), f"written before an allocation of {size} bytes"
            assert (block[start + size :] == FENCE).all(), f"written after an allocation of {size} bytes"

    def view(self, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """The device's memory itself."""
        count = math.prod(shape)
        pointer = np.ctypeslib.as_array(
            (ctypes.c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(address)
        )
        return pointer.view(dtype).reshape(shape)

    def host(self, size: int) -> Bytes:
        return np.zeros(size, np.uint8)

    def send(self, address: int, values: np.ndarray) -> None:
        self.upload(address, values)

    def wait_sent(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def lane(self, size: int, staging_size: int) -> HostLane:
        return HostLane(self, size, staging_size)

    def upload(self, address: int, values: np.ndarray) -> None:
        self.view(address, (values.nbytes,), np.uint8)[:] = values.reshape(-1).view(np.uint8)

    def download(self, address: int, values: np.ndarray) -> None:
        values[...] = self.view(address, values.shape, values.dtype)

    def tensor_map(self, address: int, rows: int, columns: int, box_rows: int) -> TensorMap:
        """As `tensor.cuh` reads it under TRENI_SHIM."""
        numbers = np.array([address, rows, columns, columns, box_rows, *[0] * 11], np.int64)
        return TensorMap(words=numbers.tobytes())

    def zero(self, address: int, size: int) -> None:
        self.view(address, (size,), np.uint8)[:] = 0

    def landing(self, size: int) -> HostLanding:
        return HostLanding(self, size)

    def launch(
        self,
        file: str,
        kernel: str,
        blocks: tuple[int, int, int],
        threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
        *,
        pairs: bool = False,
        overlap: bool = False,
        together: bool = False,
        defines: Defines = (),
    ) -> None:
        if (file, defines) not in self._libraries:
            library = Library(KERNELS / f"{file}.cu", dict(defines), self.directory)
            self._libraries[file, defines] = library
        with self._one_launch:
            # Warps in another random order each time, which finds barriers that are missing.
            self._schedule += 1
            self._libraries[file, defines].launch(
                kernel,
                blocks,
                (threads,),
                [_ctype(a) for a in arguments],
                shared_bytes=shared_bytes,
                resident=pairs or together,
                schedule=self._schedule,
            )

    def repeated(self, work: Callable[[], None]) -> HostRepeated:
        return HostRepeated(work)


class HostRepeated:
    def __init__(self, work: Callable[[], None]) -> None:
        self.run = work

    def record(self) -> None:
        pass


class HostLanding:
    """All work is done when it is launched, so a copy is too."""

    def __init__(self, device: HostDevice, size: int) -> None:
        self._device = device
        self.host: Bytes = np.zeros(size, np.uint8)

    def start(self, address: int, size: int) -> None:
        self._device.download(address, self.host[:size])

    def wait(self) -> None:
        pass


class HostLane:
    def __init__(self, device: HostDevice, size: int, staging_size: int) -> None:
        self._device = device
        self.host: Bytes = np.zeros(size, np.uint8)
        self.staging = device.allocate(staging_size)

    def __enter__(self) -> HostLane:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def copy(self, target: int, offset: int, size: int) -> None:
        self._device.upload(target, self.host[offset : offset + size])

    def launch(
        self, file: str, kernel: str, blocks: int, threads: int, arguments: Sequence[Argument]
    ) -> None:
        self._device.launch(file, kernel, (blocks, 1, 1), threads, arguments)

    def wait(self) -> None:
        pass


def _ctype(value: Argument) -> Any:
    if isinstance(value, ctypes.Structure):
        return value
    if isinstance(value, TensorMap):
        return (ctypes.c_int64 * 16).from_buffer_copy(value.words)
    if isinstance(value, int):
        return ctypes.c_void_p(value)
    kind: Any = np.ctypeslib.as_ctypes_type(value.dtype)
    return kind(value)
