"""An attempt whose request or answer is held for good."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from chaos.faults.kind import CallUnderFault, Ending, FaultKind, Lane, Site, Struck, Toxic
from chaos.faults.lost import CODE, timed_out
from treni.errors import Code

Direction: TypeAlias = Literal["request", "response"]

STALL_MS = 10 * 365 * 24 * 3600 * 1000
"""A stall is a latency of ten years. Not `timeout`: removing that closes every connection of the proxy."""


class Stall(FaultKind):
    """The attempt never gets its answer."""

    name: ClassVar[str] = "stall"
    letter: ClassVar[str] = "T"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop", "tool"})
    codes: ClassVar[frozenset[str]] = frozenset({CODE})

    direction: Direction = Field(
        description="`request`: the tool does not run; `response`: it ran, and its answer is lost."
    )

    def ending(self, struck: Struck) -> Ending:
        """The timeout of the attempt, which a stall always outlasts."""
        return timed_out(self.name, struck, tool_runs=self.direction == "response", least_s=struck.timeout_s)

    def on_hop(self) -> Lane:
        """The lane on which the proxy holds the request, or the answer, for as long as it stands."""
        stream: Literal["upstream", "downstream"] = (
            "upstream" if self.direction == "request" else "downstream"
        )
        return Lane(
            toxics=(Toxic(type="latency", stream=stream, attributes={"latency": STALL_MS, "jitter": 0}),)
        )

    async def at_tool(self, call: CallUnderFault) -> Any:
        """Holds the call before its tool or after it, until the caller gives up."""
        if self.direction == "response":
            # A refusal is an answer too, and lost like any other.
            with suppress(Exception):
                await call.run()
        await asyncio.sleep(call.max_stall_s)
        raise call.error(Code.DEADLINE_EXCEEDED, False)
