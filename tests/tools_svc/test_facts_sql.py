from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools_svc.facts_sql import COLUMNS, MAX_ROWS, FactsSql
from tools_svc.protocol import CallInfo
from treni.errors import Code, TreniError

INFO = CallInfo(run_id="r", task_id="t", attempt=0, idempotency_key="")
CITIES = resources.files("tools_svc") / "data" / "cities.csv"


def ask(tool: FactsSql, query: str) -> Any:
    return tool.run({"query": query}, INFO).result


@pytest.fixture(scope="module")
def facts() -> FactsSql:
    return FactsSql(CITIES)


def test_the_table_is_the_file(facts: FactsSql) -> None:
    with CITIES.open("r", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 60
    answer = ask(facts, "SELECT * FROM cities")
    assert answer["columns"] == list(COLUMNS)
    assert answer["rows"] == [
        [row["name"], row["country"], int(row["population"]), int(row["founded"]), row["river"]]
        for row in rows
    ]


def test_data_are_plausible(facts: FactsSql) -> None:
    odd = "SELECT name FROM cities WHERE population NOT BETWEEN 10000 AND 20000000 OR founded > 1950 OR river = ''"
    assert ask(facts, odd)["rows"] == []
    assert ask(facts, "SELECT population FROM cities WHERE name = 'Oslo'") == {
        "columns": ["population"],
        "rows": [[709037]],
    }


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT name FROM cities WHERE river = 'Elbe' ORDER BY name", [["Dresden"], ["Hamburg"]]),
        ("select count(*) from cities where country = 'Lithuania';", [[2]]),
        ("WITH old AS (SELECT name, founded FROM cities WHERE founded < 0) SELECT min(founded) FROM old", [[-753]]),
        ("SELECT a.name FROM cities a JOIN cities b ON a.founded < b.founded WHERE b.name = 'Cologne'"
         " ORDER BY a.founded LIMIT 1", [["Rome"]]),
        ("SELECT NULL, 1.5, 'x'", [[None, 1.5, "x"]]),
    ],
)  # fmt: skip
def test_answers(facts: FactsSql, query: str, rows: list[Any]) -> None:
    assert ask(facts, query)["rows"] == rows


@pytest.mark.parametrize(
    ("query", "kind", "todo"),
    [
        ("SELECT popluation FROM cities", "sql_unknown_column", 'did you mean "population"?'),
        ("SELECT c.rivr FROM cities c", "sql_unknown_column", 'did you mean "river"?'),
        ("SELECT NAME FROM citties", "sql_unknown_table", 'did you mean "cities"?'),
        ("SELECT zzz FROM cities", "sql_unknown_column", f"use one of: {', '.join(COLUMNS)}"),
    ],
)
def test_misspelt_names_are_suggested(facts: FactsSql, query: str, kind: str, todo: str) -> None:
    with pytest.raises(TreniError) as caught:
        ask(facts, query)
    assert (caught.value.kind, caught.value.todo) == (kind, todo)
    assert todo in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        "",
        ";",
        "-- nothing",
        "INSERT INTO cities VALUES ('X', 'Y', 1, 1, 'Z')",
        "UPDATE cities SET population = 0",
        "DELETE FROM cities",
        "DROP TABLE cities",
        "CREATE TABLE t (x)",
        "CREATE TEMP TABLE t AS SELECT * FROM cities",
        "ATTACH DATABASE '/tmp/x.db' AS x",
        "PRAGMA query_only = OFF",
        "PRAGMA table_info(cities)",
        "VACUUM INTO '/tmp/x.db'",
        "EXPLAIN SELECT 1",
        "BEGIN",
        "WITH x AS (SELECT 1) DELETE FROM cities",
        "WITH x AS (SELECT 1) INSERT INTO cities SELECT 'X', 'Y', 1, 1, 'Z'",
        "SELECT 1; DELETE FROM cities",
        "SELECT 1; SELECT 2",
        "SELECT name FROM sqlite_master",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM pragma_table_info('cities')",
        "SELECT * FROM pragma_database_list",
        "SELECT * FROM json_each('[1]')",
        "SELECT * FROM dbstat",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT randomblob(1000000000)",
        "SELECT zeroblob(1000000000)",
        "SELECT printf('%1000000000d', 1)",
        "SELECT format('%1000000000d', 1)",
        "SELECT sqlite_version()",
        "SELECT x'00ff'",
        "SELECT 9e999",
        "SELECT CAST(x'ff' AS TEXT)",
        "SELECT ?",
        "SELECT :name",
        "SELECT name FROM cities\0; DROP TABLE cities",
        "SELECT 'unterminated",
        "SELECT " + "(" * 2000 + "1" + ")" * 2000,
        "SELECT " + "1+" * 2000 + "1",
        "SELECT '" + "x" * 50_000 + "'",
        "SELECT a.* , b.*, c.* FROM cities a, cities b, cities c",
        "SELECT group_concat(a.name || b.name || c.name) FROM cities a, cities b, cities c",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    ],
    ids=lambda query: query[:40] or "empty",
)  # fmt: skip
def test_everything_else_is_refused_and_changes_nothing(facts: FactsSql, query: str) -> None:
    with pytest.raises(TreniError) as caught:
        ask(facts, query)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.kind.startswith("sql_")
    assert len(str(caught.value)) < 500
    assert ask(facts, "SELECT count(*) FROM cities")["rows"][0][0] >= 60


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM cities a, cities b, cities c, cities d, cities e",
        "SELECT 1 FROM cities a, cities b, cities c, cities d, cities e"
        " WHERE a.founded + b.founded + c.founded + d.founded + e.founded = 0.5",
        "SELECT max(length(a.name || b.name || e.name)) FROM cities a, cities b, cities c, cities d, cities e",
    ],
)
def test_a_long_query_is_stopped(facts: FactsSql, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools_svc.facts_sql.TIME_LIMIT_S", 0.2)
    with pytest.raises(TreniError) as caught:
        ask(facts, query)
    assert caught.value.kind == "sql_too_slow"


def test_too_many_rows_are_refused_not_cut(facts: FactsSql, refusal: Callable[..., TreniError]) -> None:
    query = "SELECT a.name FROM cities a, cities b"
    assert refusal("facts_sql", query=query).kind == "sql_too_many_rows"
    assert len(ask(facts, f"{query} LIMIT {MAX_ROWS}")["rows"]) == MAX_ROWS


def test_nothing_is_written_where_the_query_says(facts: FactsSql, tmp_path: Path) -> None:
    target = tmp_path / "leak.db"
    for query in (f"ATTACH '{target}' AS x", f"VACUUM INTO '{target}'", f"SELECT 1; ATTACH '{target}' AS x"):
        with pytest.raises(TreniError):
            ask(facts, query)
    assert list(tmp_path.iterdir()) == []


_SYNTAX = (
    "SELECT FROM cities name population founded river WHERE ORDER BY LIMIT GROUP ( ) , * = < 'x' 1 count sum WITH AS"
    ' UNION ALL DROP TABLE INSERT INTO ; -- PRAGMA sqlite_master " ` [ ] NULL CASE'
)
_WORDS = st.sampled_from(_SYNTAX.split(" "))
_FACTS = FactsSql(CITIES)


@given(st.lists(_WORDS, max_size=14).map(lambda words: "SELECT " + " ".join(words)) | st.text(max_size=60))
def test_any_text_is_answered_or_refused(query: str) -> None:
    code = None
    try:
        answer = ask(_FACTS, query)
    except TreniError as error:
        code = error.code
    assert code is Code.INVALID_ARGUMENT or (code is None and set(answer) == {"columns", "rows"})


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_names_are_compared_however_they_are_encoded(
    tmp_path: Path, stored: Literal["NFC", "NFD"], asked: Literal["NFC", "NFD"]
) -> None:
    name = "São Paulo"
    path = tmp_path / "cities.csv"
    row = unicodedata.normalize(stored, f"{name},Brazil,12300000,1554,Tietê")
    path.write_text(f"\ufeff{','.join(COLUMNS)}\n{row}\n", encoding="utf-8")
    query = unicodedata.normalize(asked, f"SELECT name, river FROM cities WHERE name = '{name}'")
    assert ask(FactsSql(path), query)["rows"] == [[name, "Tietê"]]
