"""The decoder on an NVIDIA GPU. No module of this package imports CuPy before it is asked for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime_svc.backends.backend import Backend

if TYPE_CHECKING:
    from runtime_svc.decoding.runner import Runner
    from runtime_svc.weights.checkpoint import Checkpoint


def _load(checkpoint: Checkpoint, *, slots: int, capacity: int, max_rows: int) -> Runner:
    from runtime_svc.backends.cuda.runner import CudaRunner

    return CudaRunner.load(checkpoint, slots=slots, capacity=capacity)  # its steps take up to eight rows


def _refuse_absent() -> None:
    from runtime_svc.backends.cuda.presence import refuse_absent

    refuse_absent()


CUPY = Backend(name="cupy", load=_load, refuse_absent=_refuse_absent, element_bytes=2, slot_tokens=4096)
