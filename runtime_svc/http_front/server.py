"""The front on a port of its own, beside gRPC in the same event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from runtime_svc.core import InferenceCore
from runtime_svc.http_front.app import application
from runtime_svc.http_front.connection import HEAD_BYTES, Connection
from treni import http_serving
from treni.doors import OPEN, Door

if TYPE_CHECKING:
    from treni.metrics import Page

KEEP_ALIVE_S = 65
"""How long a connection may be idle between two requests: longer than clients keep one, or they lose requests."""

RunningFront: TypeAlias = http_serving.RunningHttp
"""A front that answers until it is stopped."""


async def start(
    core: InferenceCore,
    metrics: Page,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    door: Door = OPEN,
) -> RunningFront:
    """A started front; port 0 picks a free one.

    Behind a `door` that asks for keys every path but health asks for one, and with its TLS it speaks HTTPS alone.
    Raises as `treni.http_serving.start` does.
    """
    return await http_serving.start(
        application(core, metrics, keys=door.keys),
        host=host,
        port=port,
        door=door,
        http=Connection,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
