"""The two CSV files, written in the schema of their campaign, and read back in any."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from matrices.evidence.manifest import Manifest
from matrices.report.csv_columns import SCHEMA, Column
from matrices.report.csv_comparison import COMPARISON, cell_rows
from matrices.report.csv_summary import SUMMARY, ArmRow
from matrices.report.figures import Figures
from matrices.report.networks import emulated

Row = TypeVar("Row")


def schema_of(manifest: Manifest) -> int:
    """The schema of a campaign's CSV files: a campaign of an older format is reported as it was."""
    return 1 if manifest.version < 3 else 2 if manifest.version < 5 else SCHEMA


def _csv(every: Sequence[Column[Row]], rows: Iterable[Row], schema: int) -> str:
    columns = [column for column in every if column.since <= schema]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.name_in(schema) for column in columns])
    writer.writerows([column.text(row) for column in columns] for row in rows)
    return buffer.getvalue()


def summary_csv(figures: Figures) -> str:
    """summary.csv: a row for each cell and arm."""
    schema, network = schema_of(figures.manifest), emulated(figures.manifest)
    return _csv(
        SUMMARY,
        [ArmRow(cell, arm, network, schema) for cell in figures.cells for arm in cell.arms],
        schema,
    )


def comparison_csv(figures: Figures) -> str:
    """comparison.csv: a row for each cell."""
    schema = schema_of(figures.manifest)
    return _csv(COMPARISON, cell_rows(figures, schema), schema)


def read_csv(text: str) -> list[dict[str, str]]:
    """The rows of a summary.csv or comparison.csv of any schema, under the names that the columns have today."""
    every: list[Column[Any]] = [*SUMMARY, *COMPARISON]
    today = {column.was: column.name for column in every if column.was}
    return [
        row if "schema" in row else {today.get(name, name): value for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]
