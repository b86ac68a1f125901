"""The calls of CUDA's driver that CuPy does not pass on: launches with attributes, and maps of matrices."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime_svc.backends.cuda import libraries
from treni.errors import Code, TreniError

BOX_COLUMNS = 64
"""Columns of every box: as many bf16 values as a permuted row of 128 bytes of shared memory holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorMap:
    """A bf16 matrix as the copy engine sees it, by value an argument of a kernel: `kernels/tensor.cuh`."""

    words: bytes


Argument = int | np.int32 | np.int64 | np.float32 | TensorMap | ctypes.Structure
"""An argument of a kernel: a plain int is an address, NumPy scalars are numbers, a structure goes by value."""


class _Value(ctypes.Union):
    _fields_ = (
        ("together", ctypes.c_int),
        ("cluster", ctypes.c_uint * 3),
        ("overlap", ctypes.c_int),
        ("bytes", ctypes.c_char * 64),
    )


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int), ("unused", ctypes.c_int), ("value", _Value))


_TOGETHER, _CLUSTER, _OVERLAP = 2, 4, 6


class _Launch(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("blocks", ctypes.c_uint * 3),
        ("threads", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("attribute_count", ctypes.c_uint),
    )


class Driver:
    """CUDA's driver library, in whatever context is current."""

    _BF16, _PLAIN, _PERMUTED, _FETCH_256, _ZEROS = 9, 0, 3, 3, 0

    def __init__(self) -> None:
        self._library = libraries.load("libcuda.so.1")

    def launch(
        self,
        function: int,
        blocks: tuple[int, int, int],
        threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int,
        stream: int,
        *,
        pairs: bool,
        overlap: bool,
        together: bool,
    ) -> None:
        """Starts a kernel; see `device.Device.launch`."""
        attributes = (_Attribute * 3)()
        count = 0
        if together:
            attributes[count].id = _TOGETHER
            attributes[count].value.together = 1
            count += 1
        if pairs:
            attributes[count].id = _CLUSTER
            attributes[count].value.cluster = (2, 1, 1)
            count += 1
        if overlap:
            attributes[count].id = _OVERLAP
            attributes[count].value.overlap = 1
            count += 1
        config = _Launch(blocks, (threads, 1, 1), shared_bytes, stream, attributes, count)
        values = [_value(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self.call(
            "cuLaunchKernelEx", ctypes.byref(config), ctypes.c_void_p(function), pointers, ctypes.c_void_p()
        )

    def load(self, function: int) -> None:
        """Loads a kernel now instead of at its first launch, which may be one that is recorded."""
        self.call("cuFuncLoad", ctypes.c_void_p(function))

    def tensor_map(self, address: int, rows: int, columns: int, box_rows: int) -> TensorMap:
        """The driver's map of a bf16 matrix, as `device.Device.tensor_map` says."""
        room = ctypes.create_string_buffer(128 + 64)
        start = -ctypes.addressof(room) % 64
        self.call(
            "cuTensorMapEncodeTiled",
            ctypes.c_void_p(ctypes.addressof(room) + start),
            *(ctypes.c_int(self._BF16), ctypes.c_uint(2), ctypes.c_void_p(address)),
            (ctypes.c_uint64 * 2)(columns, rows),
            (ctypes.c_uint64 * 1)(2 * columns),
            (ctypes.c_uint * 2)(BOX_COLUMNS, box_rows),
            (ctypes.c_uint * 2)(1, 1),
            *map(ctypes.c_int, (self._PLAIN, self._PERMUTED, self._FETCH_256, self._ZEROS)),
        )
        return TensorMap(words=room.raw[start : start + 128])

    def call(self, name: str, *arguments: object) -> None:
        """A function of the library. Raises INTERNAL "device_failed" with what CUDA says when it fails."""
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            raise TreniError(
                Code.INTERNAL,
                "device_failed",
                expected=f"{name} to succeed",
                got=(text.value or b"").decode(),
                todo="restart the runtime; when it comes back, look at the device's log",
            )


def _value(argument: Argument) -> ctypes.c_void_p | ctypes.Array[ctypes.c_char] | ctypes.Structure:
    if isinstance(argument, ctypes.Structure):
        return argument
    if isinstance(argument, TensorMap):
        return ctypes.create_string_buffer(argument.words, len(argument.words))
    if isinstance(argument, int):
        return ctypes.c_void_p(argument)
    return ctypes.create_string_buffer(argument.tobytes(), argument.nbytes)
