"""A bystander: asks each role again and again whether it answers, and notes when it did not and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from treni.channels import open_channel

PROBE_PERIOD_S = 0.05
PROBE_TIMEOUT_S = 0.5
"""How long a probe waits: a role that takes longer to say that it serves is out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A role that did not answer, by the monotonic clock.

    From when the last probe that it answered was sent, so that the role was certainly alive then, to its first good
    answer after.
    """

    role: str
    start_s: float
    end_s: float
    probes_lost: int


class Bystander:
    """Watches roles by their gRPC health service. Use `Bystander.watch`."""

    def __init__(self, watches: Mapping[str, _Watch]) -> None:
        self._watches = watches

    @classmethod
    @asynccontextmanager
    async def watch(
        cls, addresses: Mapping[str, str], note: Callable[[Gap], None]
    ) -> AsyncIterator[Bystander]:
        """Probes the addresses, by role, while the block runs; `note` hears of each outage as it ends."""
        bystander = cls({role: _Watch(role, address) for role, address in addresses.items()})
        watches = bystander._watches.values()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(watch.run(note)) for watch in watches]
                try:
                    yield bystander
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            for watch in watches:
                await watch.close()

    async def all_answer(self, *, limit_s: float, gone: Callable[[str], bool]) -> str | None:
        """Waits until every role has answered a probe sent after this call; outages before it are noted by then.

        A role that is `gone` for good is not waited for. The name of a role that did not answer within `limit_s`,
        None if all did.
        """
        asked_s = time.monotonic()
        for watch in self._watches.values():
            watch.hurry()
        for role, watch in self._watches.items():
            while not watch.answered_since(asked_s):
                if gone(role):
                    break
                if time.monotonic() - asked_s > limit_s:
                    return role
                await watch.progress()
        return None


class _Watch:
    """One role: a probe after the other, `PROBE_PERIOD_S` apart or as soon as somebody is waiting.

    `lost` counts those since the last good answer.
    """

    def __init__(self, role: str, address: str) -> None:
        self._role = role
        self._channel = open_channel(address)
        self._stub = health_pb2_grpc.HealthStub(self._channel)
        self._hurry = asyncio.Event()
        self._probed = asyncio.Event()
        self._alive_s = float("-inf")
        self.lost = 0

    async def run(self, note: Callable[[Gap], None]) -> None:
        """Probes until cancelled."""
        since_s = time.monotonic()
        while True:
            sent_s = time.monotonic()
            if await self._probe():
                if self.lost:
                    note(Gap(role=self._role, start_s=since_s, end_s=time.monotonic(), probes_lost=self.lost))
                # Not when the answer was read: by then the role may have died.
                since_s = self._alive_s = sent_s
                self.lost = 0
            else:
                self.lost += 1
            self._probed.set()
            self._probed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_PERIOD_S):
                    await self._hurry.wait()
            self._hurry.clear()

    def hurry(self) -> None:
        """Makes the next probe come at once."""
        self._hurry.set()

    def answered_since(self, sent_s: float) -> bool:
        """Whether a probe that was sent at `sent_s` or later was answered."""
        return self._alive_s >= sent_s

    async def progress(self) -> None:
        """Until one more probe has ended, whichever way."""
        await self._probed.wait()

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def _probe(self) -> bool:
        try:
            response = await self._stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)
