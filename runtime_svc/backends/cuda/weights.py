"""Weights from mapped files to the device: read by threads into pinned memory, copied while more is read.

What is stored as plain numbers is not converted on the CPU. bf16 matrices are copied to where they belong; whatever
is stored as another type, and every vector (to float32), goes through a staging buffer on the device and a kernel.
Quantised tensors are widened by the threads, each as a whole, and then go the same way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from runtime_svc.backends.cuda.device import Device, Lane
from runtime_svc.backends.cuda.layout import ALIGNMENT, Layout, Placed, layout
from runtime_svc.errors import damaged
from runtime_svc.safetensor import StoredTensor, Tensor
from runtime_svc.weights.checkpoint import Checkpoint

CHUNK = 4 * 1024 * 1024
"""Bytes read at once: long enough that a copy runs at full speed, short enough that all threads have work."""

_THREADS = 8
_BUFFERS = 2
_PIECES = 256
_CONVERSIONS = {
    ("BF16", True): ("bf16_to_float", 2),
    ("F16", True): ("half_to_float", 2),
    ("F16", False): ("half_to_bf16", 2),
    ("F32", False): ("float_to_bf16", 4),
}
"""Kernel, and bytes of a stored element, by stored type and whether the slab's is float32; else bytes are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """`size` bytes of a tensor at `offset` in its file, for `target` in the slab, through `kernel` if any."""

    offset: int
    size: int
    target: int
    kernel: str | None
    elements: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """A run of a file that is read at once, and what it holds."""

    file: Path
    offset: int
    size: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A tensor whose values are made from what is stored before they are copied."""

    tensor: Tensor
    placed: Placed


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceWeights:
    """A model's weights on the device: `address` of the slab, `layout` of what lies where in it."""

    address: int
    layout: Layout
    parameters: int
    stored_dtype: str
    read_s: float


def load(checkpoint: Checkpoint, device: Device) -> DeviceWeights:
    """The checkpoint's weights in one slab.

    Raises `TreniError` naming file and tensor when one is cut off, or holds NaN or infinity; RESOURCE_EXHAUSTED when
    they do not fit the device.
    """
    began = time.perf_counter()
    places = layout(checkpoint.config)
    tensors = [checkpoint.tensors[placed.name] for placed in places.tensors]
    slab = device.allocate(places.size)
    device.synchronize()
    Upload(device, slab, jobs(places.tensors, tensors)).run()
    for tensor, bad in zip(tensors, _not_finite(device, slab, places), strict=True):
        if bad:
            raise damaged(tensor.file, tensor.name, expected="finite values", got="NaN or infinity")
    return DeviceWeights(
        address=slab,
        layout=places,
        parameters=checkpoint.parameters,
        stored_dtype=checkpoint.stored_dtype,
        read_s=time.perf_counter() - began,
    )


def jobs(places: Sequence[Placed], tensors: Sequence[Tensor]) -> list[Read | Made]:
    """What has to be done to bring the tensors to their places: those that take long, each alone, then the reads."""
    pairs = list(zip(places, tensors, strict=True))
    made = [
        Made(tensor=tensor, placed=placed) for placed, tensor in pairs if not isinstance(tensor, StoredTensor)
    ]
    made.sort(key=lambda job: -job.placed.elements)
    return [*made, *_reads([(p, tensor) for p, tensor in pairs if isinstance(tensor, StoredTensor)])]


def _reads(pairs: Sequence[tuple[Placed, StoredTensor]]) -> list[Read]:
    """Runs of at most `CHUNK` bytes that cover the tensors, each file from front to back."""
    pieces = sorted(
        (
            (tensor.file, piece)
            for placed, tensor in pairs
            for piece in _cut(placed, tensor.dtype, tensor.offset)
        ),
        key=lambda item: (str(item[0]), item[1].offset),
    )
    runs: list[Read] = []
    run: list[Piece] = []
    file = Path()

    def close() -> None:
        if run:
            end = max(piece.offset + piece.size for piece in run)
            runs.append(Read(file=file, offset=run[0].offset, size=end - run[0].offset, pieces=tuple(run)))
            run.clear()

    for owner, piece in pieces:
        full = run and (piece.offset + piece.size - run[0].offset > CHUNK or len(run) == _PIECES)
        if owner != file or full:
            close()
            file = owner
        run.append(piece)
    close()
    return runs


def _cut(placed: Placed, dtype: str, offset: int) -> Iterator[Piece]:
    """The pieces of a tensor whose values lie in that type from `offset` on."""
    kernel, width = _CONVERSIONS.get((dtype, placed.wide), (None, 4 if placed.wide else 2))
    out_width = 4 if placed.wide else 2
    each = CHUNK // width
    for first in range(0, placed.elements, each):
        count = min(each, placed.elements - first)
        yield Piece(
            offset=offset + first * width,
            size=count * width,
            target=placed.offset + first * out_width,
            kernel=kernel,
            elements=count,
        )


class Upload:
    """Threads that take the next job, each with buffers and a stream of its own; see `run`."""

    def __init__(self, device: Device, slab: int, jobs: Sequence[Read | Made]) -> None:
        self._device = device
        self._slab = slab
        self._jobs = iter(jobs)
        self._next = threading.Lock()
        self._threads = max(1, min(_THREADS, len(jobs)))
        self._files: dict[Path, int] = {}
        reads = [job for job in jobs if isinstance(job, Read)]
        self._staged = len(reads) < len(jobs) or any(
            p.kernel is not None for read in reads for p in read.pieces
        )
        with ExitStack() as opened:
            for file in {read.file for read in reads}:
                self._files[file] = os.open(file, os.O_RDONLY)
                opened.callback(os.close, self._files[file])
            self._open = opened.pop_all()

    def run(self) -> None:
        """Reads and copies everything; raises what a thread raised."""
        with self._open, ThreadPoolExecutor(self._threads, "weights") as pool:
            for done in [pool.submit(self._work) for _ in range(self._threads)]:
                done.result()

    def _work(self) -> None:
        with ExitStack() as held:
            lanes = [held.enter_context(self._device.lane(CHUNK, self._staging)) for _ in range(_BUFFERS)]
            free = cycle(lanes)
            while (job := self._take()) is not None:
                if isinstance(job, Made):
                    self._make(job, free)
                    continue
                lane = next(free)
                lane.wait()
                self._fill(job, lane.host)
                self._send(job.pieces, job.offset, lane)
            for lane in lanes:
                lane.wait()

    @property
    def _staging(self) -> int:
        return CHUNK + _PIECES * ALIGNMENT if self._staged else 0

    def _take(self) -> Read | Made | None:
        with self._next:
            return next(self._jobs, None)

    def _make(self, job: Made, free: Iterator[Lane]) -> None:
        """Widens a whole tensor, and copies it in pieces."""
        values = job.tensor.widened().reshape(-1).view(np.uint8)
        for piece in _cut(job.placed, "F32", 0):
            lane = next(free)
            lane.wait()
            lane.host[: piece.size] = values[piece.offset : piece.offset + piece.size]
            self._send((piece,), piece.offset, lane)

    def _fill(self, read: Read, host: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        view = host.data[: read.size]
        at = 0
        while at < read.size:
            got = os.preadv(self._files[read.file], [view[at:]], read.offset + at)
            if got == 0:
                raise damaged(read.file, "the data", expected=f"{read.offset + read.size} bytes", got="fewer")
            at += got

    def _send(self, pieces: Sequence[Piece], begin: int, lane: Lane) -> None:
        """Starts the copies of pieces that lie in the lane's buffer, whose first byte is number `begin` of theirs."""
        staged = 0
        for piece in pieces:
            at, target = piece.offset - begin, self._slab + piece.target
            if piece.kernel is None:
                lane.copy(target, at, piece.size)
            else:
                lane.copy(lane.staging + staged, at, piece.size)
                lane.launch(
                    "weights",
                    piece.kernel,
                    -(-piece.elements // 256),
                    256,
                    (lane.staging + staged, target, np.int64(piece.elements)),
                )
                staged += -(-piece.size // ALIGNMENT) * ALIGNMENT


def _not_finite(device: Device, slab: int, places: Layout) -> list[bool]:
    """For each tensor whether it holds NaN or infinity, from one pass over the slab on the device."""
    table = np.array([(t.offset, t.size, t.wide) for t in places.tensors], np.int64)
    flags = np.zeros(len(places.tensors), np.int32)
    device_table, device_flags = device.allocate(table.nbytes), device.allocate(flags.nbytes)
    device.upload(device_table, table)
    blocks = (4 * device.multiprocessors, len(places.tensors), 1)
    device.launch("weights", "find_not_finite", blocks, 256, (slab, device_table, device_flags))
    device.download(device_flags, flags)
    return [bool(flag) for flag in flags]
