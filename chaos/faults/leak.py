"""A tool that fills its host's memory."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from pydantic import Field

from chaos.faults.host import MAX_HOST_FAULT_MB, HostFault, touched
from chaos.faults.kind import Ending, Struck, answered

_leaked: list[bytearray] = []


class Leak(HostFault):
    """The tool makes its host larger for good, before it runs."""

    name: ClassVar[str] = "leak"
    letter: ClassVar[str] = "M"

    size_mb: int = Field(ge=1, le=MAX_HOST_FAULT_MB, description="MiB at each strike.")

    def ending(self, struck: Struck) -> Ending:
        """The answer, hardly later than without it, so that a timeout is a finding."""
        return answered(least_s=0.0, struck=struck)

    async def strike(self) -> None:
        """Makes this process keep that much touched memory until it ends."""
        await asyncio.to_thread(leak, self.size_mb)

    @property
    def kept_mb(self) -> int:
        """MiB that each strike leaves with the host."""
        return self.size_mb


def leak(size_mb: int) -> None:
    """Makes this process larger by `size_mb` MiB until it ends."""
    _leaked.append(touched(size_mb))
