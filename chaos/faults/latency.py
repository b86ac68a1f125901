"""An answer that is late by a fixed time."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaos.faults.kind import (
    MAX_DURATION_S,
    CallUnderFault,
    Ending,
    FaultKind,
    Key,
    Lane,
    Site,
    Struck,
    Toxic,
    answered,
)
from chaos.faults.lost import CODE, timed_out


class Latency(FaultKind):
    """The attempt's answer is late."""

    name: ClassVar[str] = "latency"
    letter: ClassVar[str] = "L"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop", "tool"})
    codes: ClassVar[frozenset[str]] = frozenset({CODE})

    delay_ms: Annotated[int, Key(name="delay", per_second=1000)] = Field(
        ge=1,
        le=MAX_DURATION_S * 1000,
        description="By how much; from the hop's timeout on, the attempt fails.",
    )

    def ending(self, struck: Struck) -> Ending:
        """The late answer, or the timeout where the delay alone uses that up; the tool runs either way."""
        delay_s = self.delay_ms / 1000
        if self.delay_ms >= struck.timeout_s * 1000:
            return timed_out(self.name, struck, tool_runs=True, least_s=struck.timeout_s)
        return answered(least_s=delay_s, struck=struck)

    def on_hop(self) -> Lane:
        """The lane on which the proxy delays the answer, without jitter."""
        attributes = {"latency": self.delay_ms, "jitter": 0}
        return Lane(toxics=(Toxic(type="latency", stream="downstream", attributes=attributes),))

    async def at_tool(self, call: CallUnderFault) -> Any:
        """Runs the tool, then holds its answer or refusal for the delay."""
        try:
            result = await call.run()
        except Exception:
            await asyncio.sleep(self.delay_ms / 1000)
            raise
        await asyncio.sleep(self.delay_ms / 1000)
        return result
