"""A link that is long."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Annotated, ClassVar

from pydantic import Field

from chaos.faults.disturbance import Disturbance
from chaos.faults.host import MAX_HOST_FAULT_MS
from chaos.faults.kind import Ending, Key, Struck, StruckHost, answered
from chaos.faults.lost import CODE


class LinkDelay(Disturbance):
    """Whatever the host sends over the link is late; only with `site = "host"`."""

    name: ClassVar[str] = "link_delay"
    letter: ClassVar[str] = "J"
    on_link: ClassVar[bool] = True
    codes: ClassVar[frozenset[str]] = frozenset({CODE})

    delay_ms: Annotated[int, Key(name="delay", per_second=1000)] = Field(
        ge=1,
        le=MAX_HOST_FAULT_MS,
        description="By how much each packet is late: so much longer is a round trip.",
    )
    jitter_ms: Annotated[int, Key(name="jitter", per_second=1000)] = Field(
        default=1,
        ge=1,
        le=MAX_HOST_FAULT_MS,
        description="By how much at most the delay varies, up and down; at most the delay.",
    )

    def ending(self, struck: Struck) -> Ending:
        """The late answer; how many trips it takes on a connection that is new is the machine's business."""
        return answered(least_s=self._least_s, struck=struck)

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """All packets from the service held."""
        return host.delayed({host.role}, delay_s=self.delay_ms / 1000, jitter_s=self._jitter_s)

    @property
    def _jitter_s(self) -> float:
        return min(self.jitter_ms, self.delay_ms) / 1000

    @property
    def _least_s(self) -> float:
        return self.delay_ms / 1000 - self._jitter_s
