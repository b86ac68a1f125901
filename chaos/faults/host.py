"""What the kinds have in common that break the process which hosts the tool.

In the internal arm that process is the runtime (loop, engine and tools), in the external one the tool service.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from chaos.faults.kind import CallUnderFault, FaultKind, Site

MAX_HOST_FAULT_MS = 60_000
MAX_HOST_FAULT_MB = 1024
"""How long and how large one fault that breaks its host may be: a machine is borrowed, not owned."""

_MIB = 1 << 20
_PAGE_BYTES = 4096


class HostFault(FaultKind):
    """A kind that harms the process which hosts the tool, and so whatever else that does. It strikes before the tool.

    Whoever gave up by the time that the host is back gets no tool.
    """

    sites: ClassVar[frozenset[Site]] = frozenset({"tool"})
    breaks_host: ClassVar[bool] = True

    @abstractmethod
    async def strike(self) -> None:
        """Harms this process as the kind says, and returns when that is over, from a crash never.

        A caller that is cancelled meanwhile leaves at once, but what began goes on to its end: nobody can stop a native
        call.
        """

    async def at_tool(self, call: CallUnderFault) -> Any:
        """Harms the host, then runs the tool."""
        await self.strike()
        return await call.run()


def touched(size_mb: int) -> bytearray:
    """Memory of that many MiB that is really there: pages that nobody wrote would cost nothing."""
    memory = bytearray(size_mb * _MIB)
    memory[::_PAGE_BYTES] = b"\x01" * (len(memory) // _PAGE_BYTES)
    return memory
