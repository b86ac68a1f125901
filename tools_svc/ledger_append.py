"""The ledger tool: a side effect that is on disk before it is answered, once for each idempotency key."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools_svc.protocol import CallInfo, LedgerSync, Tool, ToolEntry, ToolOutput, ToolsConfig, make_spec
from tools_svc.suggest import clip, did_you_mean
from treni.errors import Code, TreniError, invalid_argument
from treni.fence import stale
from treni.folding import nfc
from treni.storage import DISK_FULL
from treni.v1.common_pb2 import ToolSpec

MAX_AMOUNT = 1_000_000_000
_SYNCHRONOUS: dict[LedgerSync, str] = {"disk": "FULL", "process": "NORMAL"}
LOCK_WAIT_S = 60.0
"""The limit for a writer that hangs: SQLite lets waiters try in no order, so that some wait long."""

SPEC = make_spec(
    name="ledger_append",
    description="Appends one entry to the ledger.",
    properties={
        "account": {"type": "string", "description": "one of the ledger's accounts"},
        "amount": {"type": "integer", "description": "whole units"},
    },
    required=("account", "amount"),
    has_side_effects=True,
)

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS effects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    account TEXT NOT NULL,
    amount INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS holder (one INTEGER PRIMARY KEY CHECK (one = 0), session TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS effects_by_key ON effects (idempotency_key) WHERE idempotency_key <> '';
COMMIT;
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectRow:
    """One effect, as it stands in the ledger. `seq` grows in the order of the commits."""

    seq: int
    run_id: str
    task_id: str
    attempt: int
    idempotency_key: str
    account: str
    amount: int


class LedgerAppend(Tool):
    """Appends entries. Safe across threads, and across processes that share the file."""

    def __init__(
        self, *, path: Path, accounts: Sequence[str], sync: LedgerSync = "disk", session: str = ""
    ) -> None:
        self._accounts = tuple(map(nfc, accounts))
        self._session = session
        self._lock = threading.Lock()
        try:
            self._database = _open(path, sync)
            if session:
                self._database.execute(
                    "INSERT INTO holder VALUES (0, ?) ON CONFLICT DO UPDATE SET session = ?",
                    (session, session),
                )
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.OperationalError) and _has_no_room(error):
                raise _not_taken(error) from error
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "ledger_not_opened",
                expected=f"{path} to be a ledger, or absent in a folder that exists",
                got=clip(str(error)),
                todo="give another path",
            ) from error

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return SPEC

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """`{"recorded": {"account", "amount"}}`, whatever else the ledger holds.

        A known idempotency key with the same arguments writes nothing and is marked as replayed. Raises
        INVALID_ARGUMENT for an unknown account or an amount out of bounds, ALREADY_EXISTS for a known key with
        other arguments, UNAVAILABLE (definite) when the file stays locked for `LOCK_WAIT_S`, or for as long as the
        caller waits, RESOURCE_EXHAUSTED (`disk_full`) when the disk does not take the entry.
        """
        account, amount = nfc(arguments["account"]), arguments["amount"]
        self._check(account, amount)
        wait_s = min(LOCK_WAIT_S, info.caller.work_s())
        if not self._lock.acquire(timeout=wait_s):
            raise _locked(wait_s, "one that other calls hold")
        try:
            replayed = self._append(account, amount, info)
        finally:
            self._lock.release()
        return ToolOutput(result={"recorded": {"account": account, "amount": amount}}, replayed=replayed)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def _check(self, account: str, amount: int) -> None:
        if account not in self._accounts:
            raise invalid_argument(
                "ledger_account_unknown",
                expected='"account" to be one of the ledger\'s accounts',
                got=f'"{clip(account)}"',
                todo=did_you_mean(account, self._accounts),
            )
        if abs(amount) > MAX_AMOUNT:
            raise invalid_argument(
                "ledger_amount_out_of_bounds",
                expected=f'"amount" between -{MAX_AMOUNT} and {MAX_AMOUNT}',
                got=clip(str(amount)),
            )

    def _append(self, account: str, amount: int, info: CallInfo) -> bool:
        wait_s = min(LOCK_WAIT_S, info.caller.work_s())
        try:
            self._database.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _has_no_room(error):
                raise _not_taken(error) from error
            raise _locked(wait_s, clip(str(error))) from error
        try:
            self._refuse_superseded()
            replayed = self._is_known(account, amount, info.idempotency_key)
            if not replayed:
                self._database.execute(
                    "INSERT INTO effects (run_id, task_id, attempt, idempotency_key, account, amount)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (info.run_id, info.task_id, info.attempt, info.idempotency_key, account, amount),
                )
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and _has_no_room(error):
                raise _not_taken(error) from error
            raise
        return replayed

    def _refuse_superseded(self) -> None:
        """Raises FAILED_PRECONDITION where another session has taken the ledger over."""
        if self._session == "":
            return
        (holder,) = self._database.execute("SELECT session FROM holder").fetchone()
        if holder != self._session:
            raise stale(
                f"the ledger to be held by this server's session, {self._session}", f"session {holder}"
            )

    def _is_known(self, account: str, amount: int, key: str) -> bool:
        if key == "":
            return False
        first = self._database.execute(
            "SELECT account, amount FROM effects WHERE idempotency_key = ?", (key,)
        ).fetchone()
        if first is None:
            return False
        if first != (account, amount):
            raise TreniError(
                Code.ALREADY_EXISTS,
                "idempotency_key_reused",
                expected=f'the arguments that the key "{clip(key)}" was first used with: {first[0]}, {first[1]}',
                got=f"{account}, {amount}",
                todo="use a new idempotency key for a new effect",
            )
        return True


def _locked(wait_s: float, got: str) -> TreniError:
    return TreniError(
        Code.UNAVAILABLE,
        "ledger_locked",
        expected=f"the ledger to be free within {wait_s:.3g} s",
        got=got,
        todo="retry",
        definite=True,
    )


def _has_no_room(error: sqlite3.OperationalError) -> bool:
    """Whether the disk did not take what was to be written: a limit on a file's size comes as a failed write."""
    return (
        error.sqlite_errorcode == sqlite3.SQLITE_FULL or error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR
    )


def _not_taken(error: sqlite3.OperationalError) -> TreniError:
    return TreniError(
        Code.RESOURCE_EXHAUSTED,
        DISK_FULL,
        expected="the disk to take what the ledger writes",
        got=clip(str(error)),
        todo="free disk space, or lift the limit",
        definite=error.sqlite_errorcode == sqlite3.SQLITE_FULL,
    )


def _open(path: Path, sync: LedgerSync) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    # WAL with synchronous=FULL: one fsync makes a commit durable, where a rollback journal needs three or four,
    # and a reader (the harness) never makes a writer wait. With NORMAL a commit is a write without the fsync: the
    # kernel keeps it whatever becomes of the process.
    _switch_to_wal(database)
    database.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[sync]}")
    database.executescript(_SCHEMA)
    return database


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """Sets the journal mode, waiting for others that open the same new file: SQLite does not wait here itself."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def read_effects(path: Path) -> list[EffectRow]:
    """Every effect in the ledger, in the order of the commits; none when the file does not exist.

    Works while a server writes, after it stopped, and after it was killed (SQLite then finds the committed rows
    in the write-ahead log beside the file, so the log has to stay with it).
    """
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as database:
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'effects'").fetchone() is None:
            return []
        rows = database.execute(
            "SELECT seq, run_id, task_id, attempt, idempotency_key, account, amount FROM effects ORDER BY seq"
        ).fetchall()
    return [
        EffectRow(
            seq=seq,
            run_id=run_id,
            task_id=task_id,
            attempt=attempt,
            idempotency_key=key,
            account=account,
            amount=amount,
        )
        for seq, run_id, task_id, attempt, key, account, amount in rows
    ]


def _build(config: ToolsConfig) -> Tool:
    accounts = (config.data / "accounts.txt").read_text(encoding="utf-8-sig").split()
    return LedgerAppend(
        path=config.ledger_path, accounts=accounts, sync=config.ledger_sync, session=config.session
    )


ENTRY = ToolEntry(spec=SPEC, build=_build)
