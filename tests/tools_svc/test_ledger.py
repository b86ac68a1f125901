from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tools_svc.ledger_append import LedgerAppend, read_effects
from tools_svc.protocol import CallInfo, ToolsConfig
from tools_svc.registry import Registry, build_registry
from treni.errors import Code, TreniError
from treni.fence import STALE
from treni.v1.tools_pb2 import CallToolRequest, CallToolResponse


def append(
    registry: Registry,
    key: str,
    *,
    account: str = "rent",
    amount: int = 120,
    run_id: str = "run",
    attempt: int = 0,
) -> CallToolResponse:
    return registry.call(
        CallToolRequest(
            name="ledger_append",
            arguments_json=json.dumps({"account": account, "amount": amount}),
            run_id=run_id,
            task_id="task",
            attempt=attempt,
            idempotency_key=key,
        )
    )


def test_a_row_keeps_who_called(registry: Registry, config: ToolsConfig) -> None:
    response = append(registry, "run/0", attempt=3)
    assert response.result_json == '{"recorded": {"account": "rent", "amount": 120}}'
    (row,) = read_effects(config.ledger_path)
    assert (row.seq, row.run_id, row.task_id, row.attempt) == (1, "run", "task", 3)
    assert (row.idempotency_key, row.account, row.amount) == ("run/0", "rent", 120)


def test_the_same_key_again_replays_and_writes_nothing(registry: Registry, config: ToolsConfig) -> None:
    first = append(registry, "k")
    again = append(registry, "k", attempt=1)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.result_json == again.result_json
    (row,) = read_effects(config.ledger_path)
    assert row.attempt == 0


def test_no_key_is_a_new_row_each_time(registry: Registry, config: ToolsConfig) -> None:
    responses = [append(registry, "", attempt=attempt) for attempt in range(3)]
    assert not any(response.replayed for response in responses)
    assert len({response.result_json for response in responses}) == 1
    assert [row.attempt for row in read_effects(config.ledger_path)] == [0, 1, 2]


@pytest.mark.parametrize("other", [{"account": "food"}, {"amount": 121}])
def test_the_same_key_with_other_arguments_is_refused(
    registry: Registry, config: ToolsConfig, other: dict[str, object]
) -> None:
    append(registry, "k")
    with pytest.raises(TreniError, match="first used with: rent, 120") as caught:
        append(registry, "k", **other)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.kind) == (Code.ALREADY_EXISTS, "idempotency_key_reused")
    assert caught.value.definite
    assert len(read_effects(config.ledger_path)) == 1


def test_keys_are_remembered_by_the_next_server(config: ToolsConfig) -> None:
    with build_registry(config) as registry:
        append(registry, "k")
    with build_registry(config) as registry:
        assert append(registry, "k").replayed
    assert len(read_effects(config.ledger_path)) == 1


def test_every_account_is_known(registry: Registry, config: ToolsConfig) -> None:
    accounts = ["rent", "food", "travel", "books", "garden", "music", "tools", "gifts", "repairs", "savings"]
    for account in accounts:
        append(registry, "", account=account)
    assert [row.account for row in read_effects(config.ledger_path)] == accounts


def test_no_ledger_has_no_effects(tmp_path: Path) -> None:
    assert read_effects(tmp_path / "absent.sqlite") == []
    assert not (tmp_path / "absent.sqlite").exists()


def test_fifty_threads_with_one_key_write_one_row(registry: Registry, config: ToolsConfig) -> None:
    barrier = threading.Barrier(50)

    def one(_: int) -> bool:
        barrier.wait()
        return append(registry, "k").replayed

    with ThreadPoolExecutor(50) as pool:
        replayed = list(pool.map(one, range(50)))
    assert Counter(replayed) == {True: 49, False: 1}
    assert len(read_effects(config.ledger_path)) == 1


def test_fifty_threads_over_five_open_files(config: ToolsConfig) -> None:
    registries = [build_registry(config) for _ in range(5)]
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda n: append(registries[n % 5], f"k{n % 20}"), range(200)))
        list(pool.map(lambda n: append(registries[n % 5], ""), range(50)))
    for registry in registries:
        registry.close()
    keys = Counter(row.idempotency_key for row in read_effects(config.ledger_path))
    assert keys == {"": 50} | {f"k{n}": 1 for n in range(20)}


def test_opening_a_new_file_at_once_from_many_places(tmp_path: Path) -> None:
    for trial in range(20):
        path = tmp_path / f"{trial}.sqlite"
        barrier = threading.Barrier(8)

        def open_one(_: int, path: Path = path, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            LedgerAppend(path=path, accounts=["rent"]).close()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(open_one, range(8)))


def test_a_locked_ledger_is_unavailable_and_definite(
    config: ToolsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools_svc.ledger_append.LOCK_WAIT_S", 0.05)
    with build_registry(config) as registry:
        other = sqlite3.connect(config.ledger_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TreniError) as caught:
            append(registry, "k")
        other.execute("ROLLBACK")
        other.close()
        assert (caught.value.code, caught.value.kind) == (Code.UNAVAILABLE, "ledger_locked")
        assert caught.value.definite
        assert not append(registry, "k").replayed
    assert len(read_effects(config.ledger_path)) == 1


def test_effects_can_be_read_while_they_are_written(registry: Registry, config: ToolsConfig) -> None:
    for n in range(30):
        append(registry, f"k{n}")
        assert len(read_effects(config.ledger_path)) == n + 1


_WRITER = """
import sys
from pathlib import Path
from tools_svc.ledger_append import LedgerAppend
from tools_svc.protocol import CallInfo

ledger = LedgerAppend(path=Path(sys.argv[1]), accounts=["rent"], sync=sys.argv[2])
for line in sys.stdin:
    key = line.strip()
    info = CallInfo(run_id="run", task_id="task", attempt=0, idempotency_key=key)
    output = ledger.run({"account": "rent", "amount": 1}, info)
    print(key, int(output.replayed), flush=True)
"""


def _feed(
    path: Path, sync: str, keys: list[str], kill_after_lines: int | None, draw: random.Random
) -> tuple[list[str], int]:
    """Acknowledged keys and exit status of a writer process, killed a random moment after so many of them."""
    acknowledged = []
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), sync],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        # Everything is sent ahead, so that the kill falls anywhere within the work on the next keys.
        writer.stdin.write("".join(f"{key}\n" for key in keys))
        writer.stdin.flush()
        if kill_after_lines is None:
            writer.stdin.close()  # else it waits for more, and ends by the kill alone
        for line in writer.stdout:
            acknowledged.append(line.split()[0])
            if len(acknowledged) == kill_after_lines:
                sum(range(draw.randrange(20_000)))  # up to half a millisecond of work, to move the moment
                writer.send_signal(signal.SIGKILL)
    return acknowledged, writer.returncode


@pytest.mark.parametrize("sync", ["disk", "process"])
def test_kill_9_loses_no_acknowledged_row_and_doubles_no_key(tmp_path: Path, sync: str) -> None:
    path = tmp_path / "ledger.sqlite"
    draw = random.Random(7)
    acknowledged: set[str] = set()
    for life in range(8):
        # Each life first repeats the keys of the one before, as a client that retries does.
        keys = [f"k{n}" for n in range(max(0, life - 1) * 100, (life + 2) * 100)]
        answered, status = _feed(path, sync, keys, draw.randrange(1, 200), draw)
        assert status == -signal.SIGKILL
        acknowledged.update(answered)
        counts = Counter(row.idempotency_key for row in read_effects(path))
        assert acknowledged <= set(counts)
        assert set(counts.values()) <= {1}
    everything = [f"k{n}" for n in range(900)]
    assert _feed(path, sync, everything, None, draw) == (everything, 0)
    assert Counter(row.idempotency_key for row in read_effects(path)) == dict.fromkeys(everything, 1)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_accounts_are_compared_however_they_are_encoded(
    tmp_path: Path, stored: Literal["NFC", "NFD"]
) -> None:
    accounts = [unicodedata.normalize(stored, "impôt")]
    ledger = LedgerAppend(path=tmp_path / "ledger", accounts=accounts)
    info = CallInfo(run_id="r", task_id="t", attempt=0, idempotency_key="k")
    outputs = [
        ledger.run({"account": unicodedata.normalize(form, "impôt"), "amount": 5}, info)
        for form in ("NFC", "NFD")
    ]
    ledger.close()
    assert [output.replayed for output in outputs] == [False, True]
    assert [effect.account for effect in read_effects(tmp_path / "ledger")] == ["impôt"]


def test_a_process_that_was_superseded_writes_nothing_more(config: ToolsConfig) -> None:
    first, second = (replace(config, session=session) for session in ("first", "second"))
    with build_registry(first) as superseded:
        append(superseded, "before")
        with build_registry(second) as holder:
            with pytest.raises(TreniError) as caught:
                append(superseded, "after")
            # Not even what is known already is told by whoever no longer knows all of it.
            with pytest.raises(TreniError):
                append(superseded, "before")
            assert append(holder, "before").replayed
            append(holder, "after")
        with build_registry(second) as again:
            assert append(again, "after").replayed
    error = caught.value
    assert (error.code, error.kind, error.definite) == (Code.FAILED_PRECONDITION, STALE, True)
    assert [row.idempotency_key for row in read_effects(config.ledger_path)] == ["before", "after"]
