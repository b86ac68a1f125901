"""A channel whose calls go through something of ours. An interceptor would cost each call a task of its own."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc

Call: TypeAlias = Callable[..., Any]
Wrap: TypeAlias = Callable[[str, Call], Call]
"""Makes of a method's name and its callable another callable."""


class WrappedChannel(grpc.aio.Channel):
    """A channel whose callables are what `wrap` makes of those of another channel, which it owns."""

    def __init__(self, channel: grpc.aio.Channel, wrap: Wrap) -> None:
        self._channel = channel
        self._wrap = wrap

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A callable as `grpc.aio.Channel.unary_unary` gives one, wrapped."""
        return self._wrap(method, self._channel.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A callable as `grpc.aio.Channel.unary_stream` gives one, wrapped."""
        return self._wrap(method, self._channel.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A callable as `grpc.aio.Channel.stream_unary` gives one, wrapped."""
        return self._wrap(method, self._channel.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A callable as `grpc.aio.Channel.stream_stream` gives one, wrapped."""
        return self._wrap(method, self._channel.stream_stream(method, *args, **kwargs))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of its connection."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits for another state of its connection."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until it is connected."""
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes the connection; calls still out are cancelled after `grace` seconds."""
        await self._channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
