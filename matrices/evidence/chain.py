"""The chain of digests through a history: each line carries the SHA-256 of the line before it.

A changed byte, a line that was dropped, moved or slipped in breaks the chain at the next line. The last line of a
finished history carries nothing else, so that no byte of it can change unseen either; its own digest stands for
the whole campaign, since the first line carries the digests of the manifest and the suite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from treni.errors import Code, TreniError

START = ""
"""What the first line carries: there is no line before it."""

_OPEN = b'{"prev":"'
_CLOSE = b'",'


def digest(data: bytes) -> str:
    """SHA-256 in hex; of a line, without its newline."""
    return hashlib.sha256(data).hexdigest()


def link(body: bytes, prev: str) -> bytes:
    """The line, without its newline, for a JSON object with at least one key, after the line with digest `prev`."""
    return _OPEN + prev.encode() + _CLOSE + body[1:]


def unlink(line: bytes, prev: str, *, name: str, number: int) -> bytes:
    """The JSON object that was linked into `line`, which is line `number` of the file `name`.

    Raises `TreniError` (DATA_LOSS, `history_broken`) unless the line carries `prev`.
    """
    head = _OPEN + prev.encode() + _CLOSE
    if not line.startswith(head):
        raise TreniError(
            Code.DATA_LOSS,
            "history_broken",
            expected=f"{name} line {number} to carry "
            + (
                f"the digest of line {number - 1}, {prev[:12]}..." if prev else "no digest, as the first line"
            ),
            got=line[:80].decode("utf-8", "replace"),
            todo=f"restore the file: line {max(1, number - 1)} was changed, or a line was dropped, moved or put in",
            definite=True,
        )
    return b"{" + line[len(head) :]


def linked(bodies: Iterable[bytes]) -> bytes:
    """A whole history of these JSON objects: every line with its newline."""
    lines: list[bytes] = []
    prev = START
    for body in bodies:
        line = link(body, prev)
        lines.append(line + b"\n")
        prev = digest(line)
    return b"".join(lines)
