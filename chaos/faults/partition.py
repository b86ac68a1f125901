"""A link that carries nothing any more."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal

from pydantic import Field

from chaos.faults.disturbance import Silence
from chaos.faults.kind import StruckHost


class Partition(Silence):
    """The link to the host loses every packet, both ways or one way; only with `site = "host"`."""

    name: ClassVar[str] = "partition"
    letter: ClassVar[str] = "P"
    on_link: ClassVar[bool] = True

    direction: Literal["both", "request", "response"] = Field(
        default="both",
        description="What is lost: `request`: all that is sent to the host; `response`: all that it sends.",
    )

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """All packets to the service or from it lost, or both."""
        return host.dropped(
            {host.role},
            requests=float(self.direction != "response"),
            answers=float(self.direction != "request"),
        )
