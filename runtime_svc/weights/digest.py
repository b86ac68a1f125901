"""What a checkpoint's files come to, as one digest: read once, and kept for as long as the files stay as they are."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from treni.errors import TreniError
from treni.packages import cache_folder

_SUFFIXES = (".safetensors", ".json", ".jinja", ".gguf")
_WORTH_KEEPING = 32 << 20
"""Bytes that are read again rather than kept a digest of: a tenth of a second."""

_SETTLED_S = 10.0
"""Files changed within this are not trusted to show their next change in their times."""


def sha256(path: Path) -> str:
    """Hex digest over what decides an answer, in name order: the file, or a directory's weights and settings.

    Of many bytes the digest is kept in the user's cache under the files' names, sizes, times and inodes, so that the
    processes of a campaign, and its resumption, read them once.
    """
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.suffix in _SUFFIXES)
    files = [file for file in files if file.is_file()]
    states = [file.stat() for file in files]
    newest_s = max((max(s.st_mtime, s.st_ctime) for s in states), default=0.0)
    if sum(s.st_size for s in states) < _WORTH_KEEPING or time.time() - newest_s < _SETTLED_S:
        return _digest(files)
    identity = hashlib.sha256()
    for file, s in zip(files, states, strict=True):
        parts = (file.resolve(), s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        identity.update(repr(parts).encode() + b"\0")
    return _kept(identity.hexdigest(), files)


def _kept(identity: str, files: Iterable[Path]) -> str:
    """What the cache has for files of that identity, or their digest. A cache that can't be used costs only time."""
    kept = None
    with suppress(TreniError, OSError, ValueError):  # no home, not ours, not text
        kept = cache_folder() / "digests" / identity
        found = kept.read_text(encoding="ascii")
        if len(found) == 64 and set(found) <= set("0123456789abcdef"):
            return found
    digest = _digest(files)
    if kept is not None:
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
                file.write(digest.encode())
            os.replace(file.name, kept)
    return digest


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
