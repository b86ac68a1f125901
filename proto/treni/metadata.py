"""Names of the gRPC metadata keys and channel options that the services agree on."""

from __future__ import annotations

import json

from treni.limits import ANSWER_BYTES, CONNECTIONS, HANDSHAKE_LIMIT_S, HEADER_BYTES

FAULT = "treni-fault"
"""The scheduled fault of this attempt, as `chaos.faults` encodes it. Absent: no fault."""

FENCE = "treni-fence"
"""Which session of a testbed the caller means (`treni.fence`). Absent: whoever answers."""

RUN_ID = "treni-run-id"
REQUEST_INDEX = "treni-request-index"
CALL_INDEX = "treni-call-index"
ATTEMPT = "treni-attempt"

READ_BYTES = 64 * 1024
"""The largest buffer that a server's connection keeps for what it reads next."""

# gRPC refuses headers between the first and the second by lot, the likelier the larger they are: the same call would
# come through and not. Both at one figure, so that a call is always taken or always refused.
_HEADER_OPTIONS = (
    ("grpc.max_metadata_size", HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", HEADER_BYTES),
)

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *_HEADER_OPTIONS,
    # Whatever the environment says of proxies is meant for other hosts. The first is for `http_proxy` and its like,
    # the second, an empty list of address ranges, for GRPC_ADDRESS_HTTP_PROXY, which the first does not turn off.
    ("grpc.enable_http_proxy", 0),
    ("grpc.address_http_proxy_enabled_addresses", ""),
    # Only the controller's own policy retries.
    ("grpc.enable_retries", 0),
    # Without this, two channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC's default backoff keeps failing for over a second after a fault is gone. Left alone is
    # "grpc.min_reconnect_backoff_ms", which whatever its name says is how long connecting may take: with 20 ms in it,
    # a handshake of 100 ms, as on a loaded machine, never succeeded.
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 50),
    ("grpc.max_receive_message_length", ANSWER_BYTES),
)

SERVER_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *_HEADER_OPTIONS,
    ("grpc.so_reuseport", 0),
    # A stalled answer would hold the server's bandwidth probe too, and after the ping timeout (a minute) the server
    # would close the connection: from then on the tool would not run under a stall that says it does.
    ("grpc.http2.bdp_probe", 0),
    # A client asks every 10 s whether the connection lives (`treni.channels`), also while it has no call; a server
    # that was not told so takes it for an attack and closes the connection with "too_many_pings".
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Calls beyond what a server takes are refused by `treni.guard`, in words. These two let them come so far: gRPC
    # itself cancels calls without a word once a thousand wait to be looked at.
    ("grpc.server.max_pending_requests", 1 << 15),
    ("grpc.server.max_pending_requests_hard_limit", 1 << 16),
    # Who connects and says nothing, or not what a handshake needs, is closed after this, and one connection more than
    # these at once: files that a process may open are few.
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_LIMIT_S * 1000),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS),
    # A connection has the buffer for its next read at hand also while it is idle, and gRPC doubles it with every read
    # that fills it, without bound and for good: two dozen connections kept 23 MB after a flood of large requests.
    ("grpc.experimental.tcp_max_read_buffer_size", READ_BYTES),
)


def fault_id_of(encoded_fault: str) -> str:
    """The id inside an encoded fault, a JSON object with the key "id"; "" for no fault."""
    return str(json.loads(encoded_fault)["id"]) if encoded_fault != "" else ""
