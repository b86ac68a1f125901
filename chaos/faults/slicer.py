"""A connection that delivers in slices."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from chaos.faults.kind import (
    MAX_COUNT,
    MAX_DURATION_S,
    Ending,
    FaultKind,
    Key,
    Lane,
    Site,
    Struck,
    Toxic,
    answered,
)


class Slicer(FaultKind):
    """The attempt's bytes arrive in slices."""

    name: ClassVar[str] = "slicer"
    letter: ClassVar[str] = "S"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop"})

    average_size_bytes: Annotated[int, Key(name="average_size")] = Field(
        ge=1, le=MAX_COUNT, description="Bytes in a slice."
    )
    delay_us: Annotated[int, Key(name="delay", per_second=1_000_000)] = Field(
        ge=1, le=MAX_DURATION_S * 1_000_000, description="Time between two slices."
    )

    def ending(self, struck: Struck) -> Ending:
        """The answer, later by its slices: how many is not known before the run, so that a timeout is a finding.

        Toxiproxy waits after each slice but one that the connection's end may cut off.
        """
        slices = math.ceil(struck.answer_bytes / self.average_size_bytes)
        return answered(least_s=max(0, slices - 1) * self.delay_us / 1e6, struck=struck)

    def on_hop(self) -> Lane:
        """The lane on which the proxy slices the answer."""
        attributes = {"average_size": self.average_size_bytes, "size_variation": 0, "delay": self.delay_us}
        return Lane(toxics=(Toxic(type="slicer", stream="downstream", attributes=attributes),))
