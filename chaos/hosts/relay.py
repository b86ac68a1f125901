"""A relay that holds packets: what a mark routes into its TUN device is sent again a while later, in its order.

For kernels with and without netem alike. Only IPv4: that is what a raw socket takes with its header.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import secrets
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from chaos.hosts.commands import run
from chaos.hosts.guard import Guard

FIRST_TABLE = 0x7E000000
"""Marks and routing tables from here on are ours."""

_SENT_MARK = 0x7DFFFFFF
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_SO_MARK = 36
_LARGEST = 65535


class Relay:
    """Reads the device, and sends each packet when its time has come. Use `Relay.opened`."""

    def __init__(self, device: int, sender: socket.socket, delay_s: float, jitter_s: float) -> None:
        self._device = device
        self._sender = sender
        self._delay_s = delay_s
        self._jitter_s = jitter_s
        self._held: deque[tuple[float, bytes]] = deque()
        self._due: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, *, mark: int, delay_s: float, jitter_s: float, guard: Guard
    ) -> AsyncIterator[Relay]:
        """Relays the packets with the mark while the block runs; what it holds at the end is sent at once."""
        name = f"treni{secrets.token_hex(4)}"
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        table = str(mark)
        rule = ["fwmark", str(mark), "table", table]
        try:
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
            sender.setsockopt(socket.SOL_SOCKET, _SO_MARK, _SENT_MARK)
            sender.setblocking(False)
            await guard.undo_with(["ip", "rule", "delete", *rule])
            await run(["ip", "link", "set", name, "up"])
            await run(["ip", "route", "add", "default", "dev", name, "table", table])
            await run(["ip", "rule", "add", *rule])
            relay = cls(device, sender, delay_s, jitter_s)
            relay._loop.add_reader(device, relay._take)
            try:
                yield relay
            finally:
                await run(["ip", "rule", "delete", *rule])
                relay._loop.remove_reader(device)
                relay._flush()
        finally:
            os.close(device)
            sender.close()

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while packet := os.read(self._device, _LARGEST):
                late_s = self._delay_s + random.uniform(-self._jitter_s, self._jitter_s)
                due_s = self._loop.time() + late_s
                if self._held:
                    due_s = max(due_s, self._held[-1][0])  # a link does not reorder
                self._held.append((due_s, packet))
        self._schedule()

    def _schedule(self) -> None:
        if self._held and self._due is None:
            self._due = self._loop.call_at(self._held[0][0], self._send_due)

    def _send_due(self) -> None:
        self._due = None
        while self._held and self._held[0][0] <= self._loop.time():
            self._send(self._held.popleft()[1])
        self._schedule()

    def _flush(self) -> None:
        if self._due is not None:
            self._due.cancel()
        while self._held:
            self._send(self._held.popleft()[1])

    def _send(self, packet: bytes) -> None:
        # What the device does not take is lost, as on any link.
        with suppress(OSError):
            self._sender.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
