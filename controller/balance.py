"""Several tool services as one port: each call goes to the one that its request chooses, all its attempts alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.ports import AttemptKey, Call, ToolPort
from treni.v1 import common_pb2, tools_pb2


class BalancedTools:
    """A ToolPort over others that host the same tools.

    `choose` gives the number of the port for an attempt. It has to be the same for every attempt of a call: where a
    first attempt may have left its effect, there alone a repeated idempotency key is known.
    """

    def __init__(self, ports: Sequence[ToolPort], choose: Callable[[AttemptKey], int]) -> None:
        self._ports = tuple(ports)
        self._choose = choose

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        """The tools that the first service lists; the others host the same."""
        return await self._ports[0].specs(timeout_s=timeout_s)

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        """Runs one tool at the service that the attempt's request chooses."""
        return await self._ports[self._choose(call.key)].call(request, call)
