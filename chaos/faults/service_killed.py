"""A service whose process is gone for a while."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from chaos.faults.disturbance import Disturbance
from chaos.faults.kind import Ending, Struck, StruckHost
from chaos.faults.lost import lost
from treni.errors import Code


class ServiceKilled(Disturbance):
    """The service is killed, and started again after `duration`; only with `site = "host"`."""

    name: ClassVar[str] = "service_killed"
    letter: ClassVar[str] = "K"
    codes: ClassVar[frozenset[str]] = frozenset({Code.UNAVAILABLE.name})

    def ending(self, struck: Struck) -> Ending:
        """The broken connection: nobody listens where the service was."""
        return lost(Code.UNAVAILABLE.name, self.name, struck, tool_runs=False)

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """The service dead until it is started again."""
        return host.killed({host.role})
