"""A runtime with both fronts as a process, behind a door or open, and what callers show at it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.proto.certificates import KEY, OTHER_KEY, Authority, key_file
from tests.runtime_svc.http_front.front import Front, served
from treni.keys import Keys
from treni.passes import NOTHING, Pass

HERE = "127.0.0.1"

SLOTS = 8
SLOT_TOKENS = 320
"""Few slots, and short ones: each grows to the longest sequence that it ever held, and keeps it."""

OPTIONS = ("--slots", f"{SLOTS}", "--slot-tokens", f"{SLOT_TOKENS}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A server, the pass of those it knows, and passes that it refuses before it reads anything, by what is wrong."""

    front: Front
    log: Path
    known: Pass = NOTHING
    refused: Mapping[str, Pass] = field(default_factory=dict)

    @property
    def locked(self) -> bool:
        """Whether it asks for a key and a certificate."""
        return self.known is not NOTHING

    def tls(self, shown: Pass | None = None, *, protocols: tuple[str, ...] = ()) -> ssl.SSLContext | None:
        """How a connection to it is encrypted by who shows that pass, the known one by default; None in plain."""
        one = self.known if shown is None else shown
        return None if one.ca is None else _context(one, protocols)


@contextmanager
def target(folder: Path, *, locked: bool) -> Iterator[Target]:
    """A server while the block runs, with its log in the folder; in the end it stops well and has logged no bug."""
    log = folder / "log"
    if not locked:
        with served(*OPTIONS, log=log) as front:
            yield Target(front=front, log=log)
    else:
        ours, others = Authority(folder, "ours"), Authority(folder, "others")
        at_door, mine = ours.issue(HERE), ours.issue("client")
        expired, foreign = ours.issue("client", expired=True), others.issue("client")
        keys = key_file(folder, KEY)
        options = (
            *OPTIONS,
            "--key-file",
            str(keys),
            "--tls-cert",
            str(at_door.certificate),
            "--tls-key",
            str(at_door.key),
        )
        with served(*options, "--tls-client-ca", str(ours.ca), log=log) as front:
            yield Target(
                front=front,
                log=log,
                known=_pass(keys, ours.ca, mine.certificate, mine.key),
                refused={
                    "expired certificate": _pass(keys, ours.ca, expired.certificate, expired.key),
                    "certificate of others": _pass(keys, ours.ca, foreign.certificate, foreign.key),
                    "no certificate": Pass(keys=Keys(file=keys), ca=ours.ca),
                    "no tls": Pass(keys=Keys(file=keys)),
                },
            )
    said = log.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in said, said[-4000:]
    assert KEY not in said, "a key is in the log"
    assert OTHER_KEY not in said, "a key that somebody tried is in the log"


@cache
def _context(one: Pass, protocols: tuple[str, ...]) -> ssl.SSLContext:
    context = one.context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _pass(keys: Path, ca: Path, certificate: Path, key: Path) -> Pass:
    return Pass(keys=Keys(file=keys), ca=ca, certificate=certificate, key=key)
