"""What the engine tells whoever watches it: metrics today. The engine knows this protocol, never who listens."""

from __future__ import annotations

from typing import Protocol

from treni.errors import TreniError
from treni.v1 import inference_pb2


class Observer(Protocol):
    """A listener to the engine's events, called on the engine's own threads; it returns at once and never raises."""

    def decode_step(self, seconds: float) -> None:
        """Hears that a decode step was read, and how many seconds it took."""

    def answered(self, finish: inference_pb2.GenerateFinish) -> None:
        """Hears that a generation is complete, with its usage and timings."""

    def ended(self, error: TreniError) -> None:
        """Hears that a generation is over without an answer, or never began, and why."""
