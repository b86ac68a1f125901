"""A host that is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

from chaos.faults.disturbance import Silence
from chaos.faults.kind import StruckHost


class NodeKilled(Silence):
    """Every service of the host is killed and its link cut; all of it is back after `duration`; only with `site = "host"`.

    Nobody is told that a connection is gone: a host without power sends no reset.
    """

    name: ClassVar[str] = "node_killed"
    letter: ClassVar[str] = "N"
    on_link: ClassVar[bool] = True

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """The link cut, then all services dead: back in the other order."""
        return _gone(host)


@asynccontextmanager
async def _gone(host: StruckHost) -> AsyncIterator[None]:
    async with host.dropped(host.roles, requests=1.0, answers=1.0), host.killed(host.roles):
        yield
