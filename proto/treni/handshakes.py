"""Why two ends that speak TLS did not come together, in the words of our errors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """What went wrong in a handshake, as an error tells it."""

    kind: str
    expected: str
    got: str
    todo: str


HUNG_UP = "Socket closed"
"""What gRPC says where the other end closed the connection without a word, as one does that refuses a certificate."""

NOT_SHOWN, NOT_TAKEN = "CERTIFICATE_REQUIRED", "ALERT_CERTIFICATE_UNKNOWN"
"""What TLS calls it that a caller has no certificate, or one that is not taken."""

SPEAKS_TLS = "SPEAKS_TLS"
"""What is said of a server that shook hands with a caller who was to speak in plain."""

_REASONS: tuple[tuple[str, Reason], ...] = (
    (
        "certificate has expired",
        Reason(
            kind="certificate_expired",
            expected="a server's certificate that is valid today",
            got="one that has expired",
            todo="have it issued anew, or set the clock of this machine",
        ),
    ),
    (
        "certificate is not yet valid",
        Reason(
            kind="certificate_expired",
            expected="a server's certificate that is valid today",
            got="one that is not valid yet",
            todo="set the clock of this machine, or wait",
        ),
    ),
    *(
        (
            text,
            Reason(
                kind="certificate_of_another_host",
                expected="a server's certificate that names the host which is called",
                got="one for another name",
                todo="call it by a name in its certificate, or have one issued for this name",
            ),
        )
        for text in (
            "Hostname Verification",
            "Hostname mismatch",
            "IP address mismatch",
            "certificate is not valid for",
        )
    ),
    *(
        (
            text,
            Reason(
                kind="client_certificate_refused",
                expected="a certificate of ours that the server takes",
                got=got,
                todo="give one of the authority that the server trusts (--tls-cert; in a file of hosts cert)",
            ),
        )
        for text, got in (
            (NOT_SHOWN, "none"),
            ("ALERT_HANDSHAKE_FAILURE", "none that it takes"),
            ("ALERT_CERTIFICATE_EXPIRED", "one that has expired"),
            ("ALERT_UNKNOWN_CA", "one of an authority that it does not know"),
            ("ALERT_BAD_CERTIFICATE", "one that it finds bad"),
            (NOT_TAKEN, "one that it does not take: expired, or of another authority"),
        )
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        Reason(
            kind="certificate_untrusted",
            expected="a server's certificate of the authority that was given",
            got="one of another authority",
            todo="give the authority that signed it (--peer-ca; in a file of hosts ca)",
        ),
    ),
    *(
        (
            text,
            Reason(
                kind="tls_not_spoken",
                expected="a server that speaks TLS",
                got="something else on its port",
                todo="start it with --tls-cert and --tls-key, or give its callers no authority",
            ),
        )
        for text in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
    ),
    (
        SPEAKS_TLS,
        Reason(
            kind="tls_expected",
            expected="a caller that speaks TLS",
            got="a connection in plain",
            todo="give the authority of the server's certificate (--peer-ca; in a file of hosts ca)",
        ),
    ),
)


def reason_of(message: str) -> Reason | None:
    """The reason in what gRPC or Python's own library said of a handshake; None where it said nothing of one."""
    return next((reason for text, reason in _REASONS if text in message), None)
