"""A connection that is reset under an attempt."""

from __future__ import annotations

from typing import ClassVar

from chaos.faults.kind import Ending, FaultKind, Lane, Site, Struck, Toxic
from chaos.faults.lost import lost
from treni.errors import Code


class Reset(FaultKind):
    """The connection is closed under the attempt, before the tool runs."""

    name: ClassVar[str] = "reset"
    letter: ClassVar[str] = "R"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop"})
    codes: ClassVar[frozenset[str]] = frozenset({Code.UNAVAILABLE.name})

    def ending(self, struck: Struck) -> Ending:
        """The broken connection at once: a reset proves nothing, so that the caller cannot know that no tool ran."""
        return lost(Code.UNAVAILABLE.name, self.name, struck, tool_runs=False, most_s=0.0)

    def on_hop(self) -> Lane:
        """The lane that resets as the request reaches it: RST, not FIN, takes a connection opened after the toxic."""
        return Lane(
            toxics=(Toxic(type="reset_peer", stream="upstream", attributes={"timeout": 0}),), fresh=True
        )
