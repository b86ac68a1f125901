"""A refusal with a gRPC status."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias, get_args

import grpc
from pydantic import Field

from chaos.faults.kind import CallUnderFault, Ending, FaultKind, Refusal, Site, Struck
from treni.errors import Code

StatusName: TypeAlias = Literal["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"]
"""Only codes that a caller treats as a failure of the hop: INVALID_ARGUMENT and its like would be taken for the tool's
own answer."""


class Status(FaultKind):
    """The attempt is refused with a gRPC status before the tool runs."""

    name: ClassVar[str] = "status"
    letter: ClassVar[str] = "F"
    sites: ClassVar[frozenset[Site]] = frozenset({"hop", "tool"})
    codes: ClassVar[frozenset[str]] = frozenset(get_args(StatusName))

    code: StatusName = Field(default="UNAVAILABLE", description="The status.")

    def ending(self, struck: Struck) -> Ending:
        """The refusal at once: whoever refuses knows that nothing happened, whatever the code alone would prove."""
        return Ending(
            outcome="fail",
            code=self.code,
            kinds=frozenset({f"injected_{self.name}"}),
            tool_runs=False,
            least_s=0.0,
            most_s=0.0,
        )

    def on_hop(self) -> Refusal:
        """The refusal that the server makes before its handler runs, exact at any concurrency."""
        return Refusal(code=self._code)

    async def at_tool(self, call: CallUnderFault) -> Any:
        """Raises the refusal, before the tool runs."""
        raise call.error(self._code, True)

    @property
    def _code(self) -> Code:
        return grpc.StatusCode[self.code]
