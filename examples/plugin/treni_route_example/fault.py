"""A kind of fault: the attempt takes longer on its way there and on its way back."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaos.faults import (
    CallUnderFault,
    Ending,
    FaultKind,
    Key,
    Lane,
    Site,
    Struck,
    Toxic,
    answered,
    timed_out,
)


class Detour(FaultKind):
    """The attempt takes a longer way, there and back."""

    name: ClassVar[str] = "detour"
    letter: ClassVar[str] = "D"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop", "tool"})
    codes: ClassVar[frozenset[str]] = frozenset({"DEADLINE_EXCEEDED"})

    each_way_ms: Annotated[int, Key(name="each_way", per_second=1000)] = Field(
        ge=1, le=10_000, description="By how much, each way."
    )

    def ending(self, struck: Struck) -> Ending:
        """The late answer, or the timeout where the two ways alone use that up."""
        if 2 * self.each_way_ms >= struck.timeout_s * 1000:
            arrives = self.each_way_ms < struck.timeout_s * 1000
            return timed_out(self.name, struck, tool_runs=arrives, least_s=struck.timeout_s)
        return answered(least_s=2 * self.each_way_ms / 1000, struck=struck)

    def on_hop(self) -> Lane:
        """The lane on which the proxy delays requests and answers alike."""
        late = {"latency": self.each_way_ms, "jitter": 0}
        return Lane(
            toxics=(
                Toxic(type="latency", stream="upstream", attributes=late),
                Toxic(type="latency", stream="downstream", attributes=late),
            )
        )

    async def at_tool(self, call: CallUnderFault) -> Any:
        """The tool's own answer, after both ways."""
        await asyncio.sleep(self.each_way_ms / 1000)
        answer = await call.run()
        await asyncio.sleep(self.each_way_ms / 1000)
        return answer
