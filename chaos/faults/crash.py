"""A tool that kills its host."""

from __future__ import annotations

import os
import signal
from typing import ClassVar

from chaos.faults.host import HostFault
from chaos.faults.kind import Ending, Struck
from chaos.faults.lost import lost
from treni.errors import Code


class Crash(HostFault):
    """The tool kills the process that hosts it, before it runs; only with `site = "tool"` and `by = "request"`."""

    name: ClassVar[str] = "crash"
    letter: ClassVar[str] = "C"
    codes: ClassVar[frozenset[str]] = frozenset({Code.UNAVAILABLE.name})
    kills_host: ClassVar[bool] = True

    def ending(self, struck: Struck) -> Ending:
        """The broken connection at the tool hop; where there is none, the loop and its record die too."""
        return lost(Code.UNAVAILABLE.name, self.name, struck, tool_runs=False, caller_dies=struck.in_process)

    async def strike(self) -> None:
        """Sends SIGKILL to this process, which does nothing else any more."""
        os.kill(os.getpid(), signal.SIGKILL)
