"""What the kinds have in common that strike a host or the link to it, for a set time and for whoever is there."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Annotated, ClassVar

from pydantic import Field

from chaos.faults.host import MAX_HOST_FAULT_MS
from chaos.faults.kind import Ending, FaultKind, Key, Site, Struck, StruckHost, answered
from chaos.faults.lost import CODE, timed_out


class Disturbance(FaultKind):
    """A kind that strikes a host as a request makes its first call there; the host heals itself after `duration`.

    Requests are not held back meanwhile: those that come by are hurt too, by name.
    """

    sites: ClassVar[frozenset[Site]] = frozenset({"host"})
    disturbs: ClassVar[bool] = True

    duration_ms: Annotated[int, Key(name="duration", per_second=1000)] = Field(
        ge=1, le=MAX_HOST_FAULT_MS, description="For how long, after which the host heals itself."
    )

    @abstractmethod
    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """The harm at the host: done when the block is entered, healed when it is left."""

    @property
    def outage_s(self) -> float:
        """Seconds after which the host that it strikes is healed."""
        return self.duration_ms / 1000


class Silence(Disturbance):
    """A disturbance under which nobody answers: the attempt reaches its timeout, or is answered once it is over."""

    codes: ClassVar[frozenset[str]] = frozenset({CODE})

    def ending(self, struck: Struck) -> Ending:
        """The timeout where the outage outlasts it, else the late answer.

        What was sent may still arrive when the outage is over, and be done for nobody.
        """
        if self.outage_s >= struck.timeout_s:
            return timed_out(self.name, struck, tool_runs=False, least_s=struck.timeout_s)
        return answered(least_s=self.outage_s, struck=struck)
