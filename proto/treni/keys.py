"""Bearer keys: read from a file or a variable, shown by callers, and held against what a caller shows.

Nothing here ever says a key: not in an error, not in a log, not as a `repr`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from treni.errors import TreniError, invalid_argument
from treni.storage import reading
from treni.text_files import decode, lines

MOST_BYTES = 64 * 1024
SHORTEST, LONGEST = 16, 512

RELOAD_S = 1.0
"""How often at most a file of keys is looked at: a key that was added or taken out counts after that."""

SCHEME = "Bearer"

_KEY = re.compile(rf"[!-~]{{{SHORTEST},{LONGEST}}}")
_OTHERS = stat.S_IRWXO | stat.S_IWGRP
"""What the mode of a file with a secret may not have: anything for everybody, or writing for its group."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """The keys as they were read: the first one, and the digests of all."""

    first: str = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)
    mark: tuple[int, ...] = ()


class Keys:
    """The keys of a file, or of a variable of the environment: one a line, the first for showing, any for entering.

    Empty lines, and those that begin with `#`, are none. A file is read again when it was changed; one that cannot be
    used any more leaves the keys as they were, with an error in the log. Raises INVALID_ARGUMENT where there are none.
    """

    def __init__(self, *, file: Path | None = None, variable: str | None = None) -> None:
        assert (file is None) != (variable is None), "keys come from a file or from a variable"
        self.file = file
        self.variable = variable
        self._looked_s = time.monotonic()
        self._read = self._fresh()

    def __repr__(self) -> str:
        return f"Keys({self.source})"

    @property
    def source(self) -> str:
        """Where the keys are from."""
        return str(self.file) if self.file is not None else f"the variable {self.variable}"

    def shown(self) -> str:
        """What a caller puts under `authorization`: the scheme and the first key."""
        return f"{SCHEME} {self._current().first}"

    def admit(self, authorization: str) -> bool:
        """Whether what a caller showed is the scheme and one of the keys; takes as long whichever it is."""
        scheme, _, key = authorization.partition(" ")
        given = _digest(key.strip(" "))
        found = False
        for digest in self._current().digests:
            found |= hmac.compare_digest(given, digest)
        return found and scheme.lower() == SCHEME.lower()

    def _current(self) -> _Read:
        if self.file is not None and time.monotonic() - self._looked_s > RELOAD_S:
            self._looked_s = time.monotonic()
            try:
                if _mark(os.stat(self.file)) != self._read.mark:
                    self._read = self._fresh()
                    _log.info("the keys were read again", extra={"from": self.source})
            except (TreniError, OSError) as error:
                said = error.got if isinstance(error, TreniError) else type(error).__name__
                _log.error("the keys stay as they were", extra={"from": self.source, "why": said})
        return self._read

    def _fresh(self) -> _Read:
        if self.file is None:
            assert self.variable is not None
            return _parsed(os.environ.get(self.variable, ""), self.source)
        with reading(self.file, "a file of keys"):
            refuse_open(self.file, self.file.stat())  # before it is opened: a pipe would wait for who writes
            opened = self.file.open("rb")
        with reading(self.file, "a file of keys"), opened:
            refuse_open(self.file, told := os.fstat(opened.fileno()))
            data = opened.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise _no_keys(self.source, f"over {MOST_BYTES} bytes")
        return _parsed(decode(data, self.source), self.source, _mark(told))


def new_key_file(path: Path) -> Path:
    """Writes a file with one key drawn anew, which only its owner may read. Raises OSError; never writes over one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secrets.token_urlsafe(32)}\n")
    return path


def refuse_open(path: Path, told: os.stat_result) -> None:
    """Raises INVALID_ARGUMENT (`secret_open`) for a file with a secret that is none, or that others may read."""
    if not stat.S_ISREG(told.st_mode):
        got, todo = "something else", "name a file"
    elif told.st_mode & _OTHERS:
        got, todo = f"the mode {stat.S_IMODE(told.st_mode):04o}", f"chmod 600 {path}"
    else:
        return
    raise invalid_argument(
        "secret_open",
        expected=f"{path} to be a file that only its owner, or also its group, may read",
        got=got,
        todo=todo,
    )


def _mark(told: os.stat_result) -> tuple[int, ...]:
    return told.st_mtime_ns, told.st_ino, told.st_size


def _digest(key: str) -> bytes:
    # Of one length, whatever was given: a comparison tells nothing of a key's length either.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _parsed(text: str, source: str, mark: tuple[int, ...] = ()) -> _Read:
    keys: list[str] = []
    for number, line in enumerate(lines(text), start=1):
        key = line.strip()
        if key == "" or key.startswith("#"):
            continue
        if _KEY.fullmatch(key) is None:
            raise _no_keys(source, f"line {number}, which is none ({len(key)} characters)")
        keys.append(key)
    if not keys:
        raise _no_keys(source, "none")
    return _Read(first=keys[0], digests=tuple(_digest(key) for key in keys), mark=mark)


def _no_keys(source: str, got: str) -> TreniError:
    return invalid_argument(
        "keys_invalid",
        expected=f"{source} to hold keys, one a line: {SHORTEST} to {LONGEST} printable characters without spaces",
        got=got,
        todo="make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`",
    )
