"""What calls under an idempotency key came to, for tools that know no keys themselves: on disk, as of a gateway."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from tools_svc.suggest import clip
from treni.errors import Code, TreniError

LOCK_WAIT_S = 60.0
MAX_KEYS = 100_000
"""How many keys are remembered; of the oldest beyond them nobody retries any more."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    idempotency_key TEXT NOT NULL UNIQUE,
    call TEXT NOT NULL,
    result_json TEXT
) STRICT;
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """A call that was begun under a key; `result_json` None: nobody knows what became of it."""

    result_json: str | None


class CallMemory:
    """Keys, and what their calls came to: written before a call goes out, and as its result is here. Thread-safe.

    What is written survives a kill of any process, not a crash of the machine, as the ledger does under a testbed.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "memory_not_opened",
                expected=f"{path} to be a memory of calls, or absent in a folder that exists",
                got=clip(str(error)),
                todo="give another path",
            ) from error

    def begin(self, key: str, call: str) -> Remembered | None:
        """Notes that `call`, its name and arguments, goes out under the key; what is known where that is no news.

        Raises ALREADY_EXISTS for a key of another call, UNAVAILABLE (definite) where nothing can be written.
        """
        with self._lock:
            first = self._run("SELECT call, result_json FROM calls WHERE idempotency_key = ?", key).fetchone()
            if first is None:
                self._run("INSERT INTO calls (idempotency_key, call) VALUES (?, ?)", key, call)
                self._run("DELETE FROM calls WHERE seq <= (SELECT max(seq) FROM calls) - ?", MAX_KEYS)
                return None
        if first[0] != call:
            raise TreniError(
                Code.ALREADY_EXISTS,
                "idempotency_key_reused",
                expected=f'the call that the key "{clip(key)}" was first used with: {clip(first[0])}',
                got=clip(call),
                todo="use a new idempotency key for a new effect",
            )
        return Remembered(result_json=first[1])

    def keep(self, key: str, result_json: str) -> None:
        """Notes what the call under the key came to."""
        with self._lock:
            self._run("UPDATE calls SET result_json = ? WHERE idempotency_key = ?", result_json, key)

    def forget(self, key: str) -> None:
        """Takes the key back, of a call that certainly did nothing."""
        with self._lock:
            self._run("DELETE FROM calls WHERE idempotency_key = ?", key)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def _run(self, statement: str, *values: str | int) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise TreniError(
                Code.UNAVAILABLE,
                "memory_unwritable",
                expected="the memory of calls to take a key",
                got=clip(str(error)),
                todo="see the disk",
                definite=True,
            ) from error
