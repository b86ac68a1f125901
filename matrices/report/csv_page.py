"""docs/csv.md: every column of both CSV files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matrices.report.csv_columns import SCHEMA, Column
from matrices.report.csv_comparison import COMPARISON
from matrices.report.csv_summary import SUMMARY


def csv_markdown() -> str:
    """docs/csv.md: every column of both files."""
    lines = [
        "# The CSV files",
        "",
        "A report holds two. An empty field means that there is no such figure. Times are in milliseconds.",
        "The baseline and the compared arm are those of `--compare`; without it, `internal` and `external`.",
        "This page is printed by `python -m matrices.report.csv_page`.",
        "",
        f"The column `schema` says what the columns are called, today {SCHEMA}. A file without it has schema 1, as has",
        "every report of a campaign that was run before there were other arms. Each is read under today's names by",
        "`matrices.report.csv_files.read_csv`.",
        "",
        "## summary.csv",
        "",
        "A row for each profile and arm.",
        "",
        *_table(SUMMARY),
        "",
        "## comparison.csv",
        "",
        "A row for each profile. In the A/A row the compared arm is the baseline's second instance, as `internal_b`.",
        "",
        *_table(COMPARISON),
    ]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[Column[Any]]) -> Iterable[str]:
    yield "| column | meaning |"
    yield "| --- | --- |"
    for column in columns:
        before = f"; schema 1 calls it `{column.was}`" if column.was else ""
        before += f"; since schema {column.since}" if column.since > 1 else ""
        yield f"| `{column.name}` | {column.doc}{before} |"


if __name__ == "__main__":
    print(csv_markdown(), end="")
