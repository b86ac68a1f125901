"""A host that is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

from chaos.faults.disturbance import Disturbance
from chaos.faults.kind import Ending, Struck, StruckHost
from chaos.faults.lost import CODE, timed_out


class NodeKilled(Disturbance):
    """The host's services are killed and its link cut; all is back after `duration`; only with `site = "host"`."""

    name: ClassVar[str] = "node_killed"
    letter: ClassVar[str] = "N"
    codes: ClassVar[frozenset[str]] = frozenset({CODE})
    on_link: ClassVar[bool] = True

    def ending(self, struck: Struck) -> Ending:
        """The timeout: what was asked of the host died with it."""
        return timed_out(self.name, struck, tool_runs=False, least_s=struck.timeout_s)

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """The link cut, then all services dead: back in the other order."""
        return _gone(host)


@asynccontextmanager
async def _gone(host: StruckHost) -> AsyncIterator[None]:
    # Nobody is told that a connection is gone: a host without power sends no reset.
    async with host.dropped(host.roles, requests=1.0, answers=1.0), host.killed(host.roles):
        yield
