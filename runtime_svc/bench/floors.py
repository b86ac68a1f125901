"""What the machine itself can do, measured: how fast it copies, and what NumPy alone needs for a model's products."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from runtime_svc.bench.bounds import matrix_shapes, model_of
from runtime_svc.bench.summary import quantile
from runtime_svc.models.architecture import ModelConfig

_DEVICE_COPY_BYTES = 4 << 30
_COPIES = 8
_FLOOR_S = 0.25
"""A pass over a model's weights is repeated for this long."""

_DEVICE_TO_DEVICE = 3  # cudaMemcpyKind


def device_copy() -> float:
    """Bytes read and written per second by a large copy within the device's memory; the median of several."""
    import cupy

    size: int = min(_DEVICE_COPY_BYTES, cupy.cuda.runtime.memGetInfo()[0] // 4)
    source, target = cupy.cuda.memory.Memory(size), cupy.cuda.memory.Memory(size)
    cupy.cuda.runtime.memset(source.ptr, 1, size)
    cupy.cuda.runtime.deviceSynchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    marks = [cupy.cuda.Event() for _ in range(_COPIES + 2)]
    for mark in marks:
        cupy.cuda.runtime.memcpyAsync(target.ptr, source.ptr, size, _DEVICE_TO_DEVICE, stream.ptr)
        mark.record(stream)
    stream.synchronize()
    # The first copies wake the memory's clocks.
    spent_ms: list[float] = [cupy.cuda.get_elapsed_time(a, b) for a, b in pairwise(marks[1:])]
    return 2.0 * size / (quantile(spent_ms, 0.5) * 1e-3)


def host(config: ModelConfig) -> dict[str, float]:
    """The floors of the NumPy backend: a read and the bare products of one token's weights, seconds.

    Over arrays of the model's shapes, not its values, which do not matter to the time; in this process, with its
    number of threads.
    """
    matrices = [np.ones(shape, np.float32) for shape in matrix_shapes(model_of("", config))]
    inputs = [np.ones((1, m.shape[0]), np.float32) for m in matrices]
    outputs = [np.empty((1, m.shape[1]), np.float32) for m in matrices]

    def read() -> None:
        for matrix in matrices:
            matrix.max()

    def multiply() -> None:
        for x, matrix, out in zip(inputs, matrices, outputs, strict=True):
            np.matmul(x, matrix, out=out)

    return {"read_s": _median_s(read), "product_s": _median_s(multiply)}


def _median_s(call: Callable[[], None]) -> float:
    call()  # memory that was never touched is slow the first time
    spent: list[float] = []
    while sum(spent) < _FLOOR_S:
        before = time.perf_counter()
        call()
        spent.append(time.perf_counter() - before)
    return quantile(spent, 0.5)
