"""The two CSV files: their columns, what each says, and its text for a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.tables import CellRow, cell_rows, latency_ms, ms, number, yes
from matrices.statistics.estimates import Estimate

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a CSV file: its name, what it says, and its text for a row ("" where there is none)."""

    name: str
    doc: str
    text: Callable[[Row], str]


@dataclass(frozen=True, slots=True)
class ArmRow:
    """A row of summary.csv."""

    cell: CellFigures
    arm: ArmFigures


def _ratio(estimate: Estimate | None, name: str) -> str:
    return "" if estimate is None else number(getattr(estimate, name), 4)


def _delta(estimate: Estimate | None, name: str) -> str:
    return "" if estimate is None else ms(getattr(estimate, name))


def _rate(row: CellRow, name: str) -> str:
    rates = row.cell.reliability.rates
    return "" if rates is None else number(getattr(rates, name), 4)


def _significant(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


SUMMARY: tuple[Column[ArmRow], ...] = (
    Column("profile", "full name of the profile; `aa` for the A/A cell", lambda r: r.cell.config.profile),
    Column(
        "arm", "`internal` or `external`; in the A/A cell `internal` and `internal_b`", lambda r: r.arm.arm
    ),
    Column("requests", "requests with an outcome, answer or error", lambda r: str(r.arm.requests)),
    Column("errors", "requests that ended without an answer", lambda r: str(r.arm.errors)),
    Column("error_rate", "errors over requests", lambda r: number(r.arm.error_rate, 6)),
    Column(
        "retries_mean_success",
        "retries, both hops, per request that ended with an answer",
        lambda r: number(r.arm.retries_mean_success, 6),
    ),
    Column(
        "latency_mean_ms",
        "mean over all requests of the client's time to the outcome, answer or error",
        lambda r: latency_ms(r.arm.latency, "mean_s"),
    ),
    Column("latency_p50_ms", "median of the same", lambda r: latency_ms(r.arm.latency, "p50_s")),
    Column("latency_p95_ms", "95th percentile of the same", lambda r: latency_ms(r.arm.latency, "p95_s")),
    Column(
        "ttft_p50_ms",
        "median time to the first text of the answer, over requests that were answered",
        lambda r: ms(r.arm.ttft_p50_s),
    ),
    Column(
        "latency_p99_ms",
        "99th percentile; empty under 300 requests, where it would be one of them",
        lambda r: latency_ms(r.arm.latency, "p99_s"),
    ),
    Column(
        "success_rate",
        "requests answered over requests; read the next two columns with it",
        lambda r: number(None if r.arm.error_rate is None else 1 - r.arm.error_rate, 6),
    ),
    Column(
        "latency_success_mean_ms",
        "mean latency over requests that were answered",
        lambda r: latency_ms(r.arm.latency_success, "mean_s"),
    ),
    Column(
        "latency_success_p50_ms",
        "median latency over requests that were answered",
        lambda r: latency_ms(r.arm.latency_success, "p50_s"),
    ),
    Column("wrong_answers", "answers that the task's checker refused", lambda r: str(r.arm.wrong_answers)),
    Column("prompt_tokens", "sum over all requests", lambda r: str(r.arm.work.prompt_tokens)),
    Column("completion_tokens", "sum over all requests", lambda r: str(r.arm.work.completion_tokens)),
    Column(
        "cached_prompt_tokens",
        "of the prompt tokens: found in the KV cache",
        lambda r: str(r.arm.work.cached_prompt_tokens),
    ),
    Column("tool_calls", "tool calls with a result", lambda r: str(r.arm.work.tool_calls)),
    Column(
        "model_attempts", "attempts at the model, retries included", lambda r: str(r.arm.work.model_attempts)
    ),
    Column(
        "tool_attempts", "attempts at the tools, retries included", lambda r: str(r.arm.work.tool_attempts)
    ),
    Column(
        "faults_planned",
        "faults that the schedule puts on this arm",
        lambda r: str(len(r.arm.faults.planned)),
    ),
    Column(
        "faults_delivered",
        "faults in the delivery log of this arm",
        lambda r: str(len(r.arm.faults.delivered)),
    ),
    Column(
        "faults_observed",
        "planned faults that an attempt met and that ended as they should",
        lambda r: str(len(r.arm.faults.observed)),
    ),
    Column(
        "effects_recorded", "entries in the ledger by this arm's runs", lambda r: str(r.arm.effects.recorded)
    ),
    Column(
        "effects_lost",
        "calls acknowledged to the model without an entry",
        lambda r: str(r.arm.effects.lost),
    ),
    Column(
        "effects_duplicate", "entries beyond the first of one call", lambda r: str(r.arm.effects.duplicate)
    ),
    Column(
        "effects_phantom",
        "calls that left an entry in a request that ended without an answer",
        lambda r: str(r.arm.effects.phantom),
    ),
    Column(
        "effects_superseded",
        "entries of runs that were abandoned when the campaign was resumed, in no other count",
        lambda r: str(r.arm.effects.superseded),
    ),
    Column("cell", "short name of the profile", lambda r: r.cell.config.name),
    Column(
        "cost_per_success_ms",
        "time spent on all requests, failed ones included, for each right answer",
        lambda r: "" if r.arm.time_per_success is None else ms(r.arm.time_per_success.value),
    ),
    Column(
        "attempts_per_success",
        "attempts on both hops over all requests, failed ones included, for each right answer",
        lambda r: "" if r.arm.attempts_per_success is None else number(r.arm.attempts_per_success.value, 4),
    ),
)

COMPARISON: tuple[Column[CellRow], ...] = (
    Column("profile", "full name of the profile; `aa` for the A/A cell", lambda r: r.cell.config.profile),
    Column("pairs", "completed pairs, void ones included", lambda r: str(r.cell.pairs)),
    Column(
        "pairs_void",
        "pairs in which both arms answered and did different work; left out of every estimate",
        lambda r: str(len(r.cell.void)),
    ),
    Column(
        "ratio",
        "mean external latency over mean internal latency, all requests",
        lambda r: _ratio(r.cell.comparison.ratio, "value"),
    ),
    Column(
        "ratio_ci_low",
        "lower end of its interval, at the level in `confidence`; `unbounded` where the data do not bound it",
        lambda r: _ratio(r.cell.comparison.ratio, "low"),
    ),
    Column("ratio_ci_high", "upper end of the same", lambda r: _ratio(r.cell.comparison.ratio, "high")),
    Column(
        "delta_ms",
        "mean paired difference, external minus internal, all requests",
        lambda r: _delta(r.cell.comparison.delta, "value"),
    ),
    Column(
        "delta_ci_low",
        "lower end of its interval, ms, at the level in `confidence`",
        lambda r: _delta(r.cell.comparison.delta, "low"),
    ),
    Column("delta_ci_high", "upper end of the same, ms", lambda r: _delta(r.cell.comparison.delta, "high")),
    Column(
        "verdict",
        "on latency: `external slower`, `external faster`, `equivalent within the margin` or `inconclusive`",
        lambda r: r.cell.verdict,
    ),
    Column(
        "claim_safe",
        "`yes` if there is a verdict and every gate passed; never where `check` finds anything",
        lambda r: yes(r.cell.claim_safe),
    ),
    Column(
        "faults_planned",
        "faults that the schedule puts on the external arm",
        lambda r: str(len(r.second.faults.planned)),
    ),
    Column("faults_delivered", "of the external arm", lambda r: str(len(r.second.faults.delivered))),
    Column("faults_observed", "of the external arm", lambda r: str(len(r.second.faults.observed))),
    Column("effects_lost", "of the external arm; as in summary.csv", lambda r: str(r.second.effects.lost)),
    Column(
        "effects_duplicate",
        "of the external arm; as in summary.csv",
        lambda r: str(r.second.effects.duplicate),
    ),
    Column(
        "effects_phantom", "of the external arm; as in summary.csv", lambda r: str(r.second.effects.phantom)
    ),
    Column(
        "internal_faults_planned",
        "faults that the schedule puts on the internal arm (only where they act at the tool itself)",
        lambda r: str(len(r.first.faults.planned)),
    ),
    Column("internal_faults_delivered", "of the internal arm", lambda r: str(len(r.first.faults.delivered))),
    Column("internal_faults_observed", "of the internal arm", lambda r: str(len(r.first.faults.observed))),
    Column("internal_effects_lost", "of the internal arm", lambda r: str(r.first.effects.lost)),
    Column("internal_effects_duplicate", "of the internal arm", lambda r: str(r.first.effects.duplicate)),
    Column("internal_effects_phantom", "of the internal arm", lambda r: str(r.first.effects.phantom)),
    Column(
        "delta_median_ms",
        "median paired difference over the same pairs",
        lambda r: ms(r.cell.comparison.median_delta_s),
    ),
    Column(
        "p_adjusted",
        "two-sided p of no difference, corrected over all profiles (Holm); the A/A row is not corrected",
        lambda r: _significant(r.cell.comparison.p_adjusted),
    ),
    Column(
        "confidence",
        "level of the row's intervals: 0.95, and 0.99 in the A/A row, which gates the campaign",
        lambda r: "" if r.cell.comparison.delta is None else f"{r.cell.comparison.delta.confidence:g}",
    ),
    Column(
        "margin_ms",
        "the difference within which the arms count as equivalent, fixed before the run as a share of the mean",
        lambda r: ms(r.cell.comparison.margin_s),
    ),
    Column(
        "p_equivalent",
        "the larger p of two one-sided tests that the difference lies outside of the margin",
        lambda r: (
            ""
            if r.cell.comparison.latency is None
            else _significant(r.cell.comparison.latency.equivalence.p_value)
        ),
    ),
    Column(
        "reliability",
        "`external fails more`, `external fails less`, `same errors` or `inconclusive`",
        lambda r: r.cell.reliability_verdict,
    ),
    Column("error_rate_delta", "error rate of external less that of internal", lambda r: _rate(r, "value")),
    Column(
        "error_rate_delta_ci_low",
        "lower end of its CI95, for requests like these: what a schedule plans is certain",
        lambda r: _rate(r, "low"),
    ),
    Column("error_rate_delta_ci_high", "upper end of the same", lambda r: _rate(r, "high")),
    Column(
        "p_reliability",
        "two-sided p of equal error rates, corrected over all profiles (Holm)",
        lambda r: _significant(r.cell.reliability.p_adjusted),
    ),
    Column(
        "pairs_abandoned",
        "pairs that an interruption cut off, and that were run again",
        lambda r: str(r.cell.abandoned),
    ),
    Column("floor_ms", "the largest difference that the A/A interval allows", lambda r: ms(r.floor_s)),
    Column(
        "pairs_success",
        "pairs in which both arms answered; the next three columns are over these",
        lambda r: str(r.cell.successes.pairs),
    ),
    Column(
        "ratio_success",
        "as ratio; read it beside the error rates",
        lambda r: _ratio(r.cell.successes.ratio, "value"),
    ),
    Column("ratio_success_ci_low", "lower end of its CI95", lambda r: _ratio(r.cell.successes.ratio, "low")),
    Column(
        "ratio_success_ci_high", "upper end of its CI95", lambda r: _ratio(r.cell.successes.ratio, "high")
    ),
    Column("blocks", "runs of the suite", lambda r: str(r.cell.blocks)),
    Column(
        "blocks_contaminated", "of these, broke a rule of conditions", lambda r: str(len(r.cell.contaminated))
    ),
    Column("pairs_contaminated", "pairs in those blocks", lambda r: str(r.cell.pairs_contaminated)),
    Column(
        "ratio_without_contaminated",
        "as ratio, without contaminated blocks",
        lambda r: _ratio(r.cell.without_contaminated.ratio, "value"),
    ),
    Column(
        "verdict_without_contaminated",
        "the verdict when contaminated blocks are left out of the whole campaign, A/A included",
        lambda r: r.cell.said(r.cell.without_contaminated),
    ),
    Column("findings", "what the checker holds against the row", lambda r: str(len(r.cell.findings))),
    Column(
        "gates_failed",
        "names of the gates that did not pass, separated by spaces",
        lambda r: " ".join(gate.name for gate in r.cell.gates if not gate.passed),
    ),
    Column("cell", "short name of the profile", lambda r: r.cell.config.name),
)


EXAMINED: tuple[Column[ArmRow], ...] = (
    Column("accuracy", "right answers over requests that were answered", lambda r: number(r.arm.accuracy, 6)),
)
"""What summary.csv has besides where the model's answers were not known to be right before."""


def _csv(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows([column.text(row) for column in columns] for row in rows)
    return buffer.getvalue()


def summary_csv(figures: Figures) -> str:
    """summary.csv: a row for each cell and arm."""
    columns = (*SUMMARY, *EXAMINED) if figures.examines else SUMMARY
    return _csv(columns, [ArmRow(cell, arm) for cell in figures.cells for arm in cell.arms])


def comparison_csv(figures: Figures) -> str:
    """comparison.csv: a row for each cell."""
    return _csv(COMPARISON, cell_rows(figures))


def csv_markdown() -> str:
    """docs/csv.md: every column of both files."""
    lines = [
        "# The CSV files",
        "",
        "A report holds two. An empty field means that there is no such figure. Times are in milliseconds.",
        "This page is printed by `python -m matrices.report.csv_files`.",
    ]
    summary, comparison = list(SUMMARY), list(COMPARISON)
    lines += [
        "",
        "## summary.csv",
        "",
        "A row for each profile and arm.",
        "",
        "| column | meaning |",
        "| --- | --- |",
    ]
    lines += [f"| `{column.name}` | {column.doc} |" for column in summary]
    lines += [
        "",
        "A campaign of another model or suite than the bundled ones has one more column. In the others a wrong answer",
        "is a finding.",
        "",
        "| column | meaning |",
        "| --- | --- |",
    ]
    lines += [f"| `{column.name}` | {column.doc} |" for column in EXAMINED]
    lines += [
        "",
        "## comparison.csv",
        "",
        "A row for each profile. In the A/A row, read `internal_b` for external.",
        "",
    ]
    lines += ["| column | meaning |", "| --- | --- |"]
    lines += [f"| `{column.name}` | {column.doc} |" for column in comparison]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(csv_markdown(), end="")
