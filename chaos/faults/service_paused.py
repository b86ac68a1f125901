"""A service that stands still."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from chaos.faults.disturbance import Silence
from chaos.faults.kind import StruckHost


class ServicePaused(Silence):
    """The service is stopped where it is (SIGSTOP), its connections open; only with `site = "host"`."""

    name: ClassVar[str] = "service_paused"
    letter: ClassVar[str] = "Z"

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """The service stopped until it may go on."""
        return host.paused({host.role})
