"""Names of the gRPC metadata keys and channel options that the services agree on."""

from __future__ import annotations

FAULT = "treni-fault"
"""The scheduled fault of this attempt, as `chaos.faults` encodes it. Absent: no fault."""

RUN_ID = "treni-run-id"
REQUEST_INDEX = "treni-request-index"
CALL_INDEX = "treni-call-index"
ATTEMPT = "treni-attempt"

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # Only the controller's own policy retries.
    ("grpc.enable_retries", 0),
    # Without this, two channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC's default backoff keeps failing for over a second after a fault is gone. Left alone is
    # "grpc.min_reconnect_backoff_ms", which whatever its name says is how long connecting may take: with 20 ms in it,
    # a handshake of 100 ms, as on a loaded machine, never succeeded.
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 50),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)

SERVER_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.so_reuseport", 0),
    # A stalled answer would hold the server's bandwidth probe too, and after the ping timeout (a minute) the server
    # would close the connection: from then on the tool would not run under a stall that says it does.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)
