"""The reference backend: float32 NumPy on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime_svc.backends.backend import Backend

if TYPE_CHECKING:
    from runtime_svc.decoding.runner import Runner
    from runtime_svc.weights.checkpoint import Checkpoint


def _load(checkpoint: Checkpoint, *, slots: int, capacity: int, max_rows: int) -> Runner:
    from runtime_svc.backends.numpy.runner import NumpyRunner

    return NumpyRunner.load(checkpoint, slots=slots, capacity=capacity, max_rows=max_rows)


def _refuse_absent() -> None:
    """NumPy is one of the runtime's own dependencies."""


NUMPY = Backend(name="numpy", load=_load, refuse_absent=_refuse_absent, element_bytes=4, slot_tokens=None)
