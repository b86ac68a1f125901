"""The SQL tool: one SELECT at a time over a private, read-only copy of the table of cities.

In the data, population is that of the city proper by a census or municipal estimate of 2010 to 2023; founded is the
year of foundation, charter or first record, negative before our era; river is the one that the city stands on.
"""

from __future__ import annotations

import csv
import math
import re
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from importlib.resources.abc import Traversable
from typing import Any

from tools_svc.protocol import Caller, CallInfo, Tool, ToolEntry, ToolOutput, ToolsConfig, make_spec
from tools_svc.suggest import clip, did_you_mean
from treni.errors import TreniError, invalid_argument
from treni.folding import nfc
from treni.v1.common_pb2 import ToolSpec

TABLE = "cities"
COLUMNS = ("name", "country", "population", "founded", "river")
MAX_ROWS = 100
MAX_RESULT_CHARS = 16_384
TIME_LIMIT_S = 1.0
"""The limit of processor time, so that what is answered does not depend on who else uses the machine. A caller
who waits less long than that is refused sooner."""

SPEC = make_spec(
    name="facts_sql",
    description=f"Runs one read-only SQL query on the table {TABLE}({', '.join(COLUMNS)}).",
    properties={"query": {"type": "string", "description": "one SELECT statement"}},
    required=("query",),
)

# None of these makes a value much larger than its input, reads a file, or keeps state.
_FUNCTIONS = frozenset(
    {"abs", "avg", "coalesce", "count", "group_concat", "ifnull", "instr", "length", "like", "lower", "ltrim"}
    | {"max", "min", "nullif", "round", "rtrim", "substr", "substring", "sum", "total", "trim", "upper"}
)
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 32_768,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4_096,
    sqlite3.SQLITE_LIMIT_COLUMN: 64,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 64,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 16,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 1,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_STEPS_BETWEEN_CLOCK_READS = 2_000
_SELECT = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_NO_SUCH = re.compile(r"no such (?P<what>column|table|function): \"?(?P<name>[^\s\"]+)")


class FactsSql(Tool):
    """Answers SELECTs. Each call runs on its own in-memory copy, so no query can reach another or the data."""

    def __init__(self, cities_csv: Traversable) -> None:
        self._image = _build_image(cities_csv)

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return SPEC

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """`{"columns": [...], "rows": [[...], ...]}`, at most `MAX_ROWS` rows.

        Raises INVALID_ARGUMENT for anything but one SELECT over the table that takes no longer than `TIME_LIMIT_S`
        and than its caller waits. A query whose caller has left is stopped.
        """
        query = nfc(arguments["query"])
        if _SELECT.match(query) is None:
            raise _refused("sql_not_select", expected="one SELECT statement", got=query)
        clock = _Clock(info.caller)
        with closing(_open(self._image, clock)) as connection:
            try:
                cursor = connection.execute(query)
                columns = [column[0] for column in cursor.description]
                rows = _fetch(cursor)
            except (sqlite3.Error, sqlite3.Warning) as error:  # a second statement is a Warning in 3.11
                raise _explain(error, clock) from error
        return ToolOutput(result={"columns": columns, "rows": rows})


def _build_image(cities_csv: Traversable) -> bytes:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        cities_csv.open("r", encoding="utf-8-sig") as file,
    ):
        connection.execute(
            f"CREATE TABLE {TABLE}"
            " (name TEXT PRIMARY KEY, country TEXT, population INTEGER, founded INTEGER, river TEXT) STRICT"
        )
        rows = [tuple(nfc(row[column]) for column in COLUMNS) for row in csv.DictReader(file)]
        connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
        return connection.serialize()


class _Clock:
    """When a query is over: for all by processor time, and for one caller by the time that he waits."""

    def __init__(self, caller: Caller) -> None:
        work_s = caller.work_s()
        self._caller = caller
        # The thread's own clock: the query runs in the thread that opens its connection.
        self._processor_s = time.thread_time() + TIME_LIMIT_S
        self._until_s = time.monotonic() + work_s
        self.allowed = f"{TIME_LIMIT_S} s of processor time"
        if work_s < TIME_LIMIT_S:
            self.allowed = f"{work_s:.3g} s, as its caller waits no longer"

    def is_over(self) -> bool:
        """Whether the query has had its time."""
        return time.thread_time() > self._processor_s or time.monotonic() > self._until_s or self._caller.gone


def _open(image: bytes, clock: _Clock) -> sqlite3.Connection:
    """A connection to a fresh copy of the image on which only harmless SELECTs can be prepared."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(image)
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(clock.is_over, _STEPS_BETWEEN_CLOCK_READS)
    return connection


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and first == TABLE:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second in _FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _fetch(cursor: sqlite3.Cursor) -> list[list[Any]]:
    rows: list[list[Any]] = []
    chars = 0
    for row in cursor:
        if len(rows) == MAX_ROWS:
            raise _refused(
                "sql_too_many_rows", expected=f"at most {MAX_ROWS} rows", got="more", todo="add a LIMIT"
            )
        for value in row:
            if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
                raise _refused("sql_value", expected="numbers, text and nulls", got=repr(value))
            chars += len(str(value))
        if chars > MAX_RESULT_CHARS:
            raise _refused(
                "sql_result_too_large", expected=f"at most {MAX_RESULT_CHARS} characters", got="more"
            )
        rows.append(list(row))
    return rows


def _explain(error: sqlite3.Error | sqlite3.Warning, clock: _Clock) -> TreniError:
    """SQLite's refusal in the vocabulary of the contract; every one is caused by the query."""
    text = str(error)
    missing = _NO_SUCH.match(text)
    if missing is not None and missing["what"] != "function":
        options = COLUMNS if missing["what"] == "column" else (TABLE,)
        name = missing["name"]
        return _refused(
            f"sql_unknown_{missing['what']}",
            expected=f"a {missing['what']} of {TABLE}({', '.join(COLUMNS)})",
            got=f'"{name}"',
            todo=did_you_mean(name.rpartition(".")[2], options),
        )
    if text == "interrupted":
        return _refused(
            "sql_too_slow",
            expected=f"a query of at most {clock.allowed}",
            got="a longer one",
        )
    if text.startswith("not authorized") or "prohibited" in text:
        return _refused("sql_not_allowed", expected=f"a SELECT over {TABLE} with common functions", got=text)
    return _refused("sql_error", expected="one valid SELECT statement", got=text)


def _refused(kind: str, *, expected: str, got: str, todo: str = "correct the query") -> TreniError:
    return invalid_argument(kind, expected=expected, got=clip(got), todo=todo)


def _build(config: ToolsConfig) -> Tool:
    return FactsSql(config.data / "cities.csv")


ENTRY = ToolEntry(spec=SPEC, build=_build)
