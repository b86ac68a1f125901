"""The one place where connections are made: between the services and to them, with nothing in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc

from treni import metadata
from treni.errors import invalid_argument

if TYPE_CHECKING:
    import httpx

KEEPALIVE_INTERVAL_S = 10.0
"""How often a connection is asked whether it still carries anything, calls on it or not."""

KEEPALIVE_TIMEOUT_S = 10.0
"""How long it may take to say so: whoever hears nothing for that long closes it and opens another."""

SILENCE_LIMIT_S = KEEPALIVE_INTERVAL_S + KEEPALIVE_TIMEOUT_S
"""After so long at most a connection that went silent, without a word from either end, is replaced."""

_KEEPALIVE = (
    ("grpc.keepalive_time_ms", int(KEEPALIVE_INTERVAL_S * 1000)),
    # Both: measured with gRPC 1.85, a silent connection is given up after the second, whose default is a minute.
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def open_channel(
    address: str, *, interceptors: Sequence[grpc.aio.ClientInterceptor] = (), keepalive: bool = True
) -> grpc.aio.Channel:
    """A channel to the service at `address` ("host:port"), past every proxy that the environment names.

    It fails calls rather than repeat them, and replaces a connection that went silent within `SILENCE_LIMIT_S`.
    `keepalive=False` is for a connection that is silent on purpose, such as one that a fault stalls.
    """
    options = [*metadata.CHANNEL_OPTIONS, *(_KEEPALIVE if keepalive else ())]
    return grpc.aio.insecure_channel(address, options=options, interceptors=list(interceptors))


def check_address(option: str, address: str) -> None:
    """Raises INVALID_ARGUMENT where the `option`'s address is no "host:port" that a channel could be opened to."""
    host, _, port = address.rpartition(":")
    bare = ":" in host and not (
        host.startswith("[") and host.endswith("]")
    )  # an IPv6 address without brackets
    if host and not bare and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535:
        return
    raise invalid_argument(
        "address_invalid",
        expected=f"{option} to be host:port or [IPv6 address]:port, with a port from 1 to 65535",
        got=repr(address),
    )


def open_http(**options: Any) -> httpx.AsyncClient:
    """An HTTP client with httpx's own options that reads no proxy, certificate or password from the environment."""
    import httpx  # not at the top: a service without HTTP does not wait for it

    return httpx.AsyncClient(trust_env=False, **options)
