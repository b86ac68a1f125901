"""A connection with little bandwidth."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from chaos.faults.kind import MAX_COUNT, Ending, FaultKind, Lane, Site, Struck, Toxic, answered


class Bandwidth(FaultKind):
    """The attempt's bytes move slowly."""

    name: ClassVar[str] = "bandwidth"
    letter: ClassVar[str] = "B"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop"})

    rate_kb_s: int = Field(ge=1, le=MAX_COUNT, description="Kilobytes per second.")

    def ending(self, struck: Struck) -> Ending:
        """The answer, later by its bytes: how many is not known before the run, so that a timeout is a finding.

        Toxiproxy waits a millisecond for each `rate_kb_s` bytes.
        """
        return answered(least_s=struck.answer_bytes / self.rate_kb_s / 1000, struck=struck)

    def on_hop(self) -> Lane:
        """The lane on which the proxy lets the answer's bytes through at that rate."""
        return Lane(
            toxics=(Toxic(type="bandwidth", stream="downstream", attributes={"rate": self.rate_kb_s}),)
        )
