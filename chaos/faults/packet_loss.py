"""A link that loses packets."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from pydantic import Field

from chaos.faults.disturbance import Disturbance
from chaos.faults.kind import Ending, Struck, StruckHost, answered
from chaos.faults.lost import CODE
from treni.errors import Code


class PacketLoss(Disturbance):
    """The link to the host loses a share of its packets, both ways; only with `site = "host"`."""

    name: ClassVar[str] = "packet_loss"
    letter: ClassVar[str] = "O"
    on_link: ClassVar[bool] = True
    codes: ClassVar[frozenset[str]] = frozenset({CODE, Code.UNAVAILABLE.name})

    share: float = Field(gt=0, lt=1, description="Probability that a packet is lost, each for itself.")

    def ending(self, struck: Struck) -> Ending:
        """The answer: TCP sends again what was lost, and how often that is needed is chance."""
        return answered(least_s=0.0, struck=struck)

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """Loses that share of the packets to the service and from it."""
        return host.dropped({host.role}, requests=self.share, answers=self.share)
