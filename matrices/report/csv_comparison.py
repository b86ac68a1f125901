"""The columns of comparison.csv, a row for each cell."""

from __future__ import annotations

from dataclasses import dataclass

from matrices.report.csv_columns import Column
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import ms, number, yes
from matrices.report.networks import emulated
from matrices.statistics.estimates import Estimate


@dataclass(frozen=True, slots=True)
class CellRow:
    """A row of comparison.csv; `floor_s` is None where there is no floor, `network` "" where none was emulated."""

    cell: CellFigures
    floor_s: float | None
    network: str
    schema: int

    @property
    def first(self) -> ArmFigures:
        """The figures of the row's baseline arm."""
        return self.cell.arms[0]

    @property
    def second(self) -> ArmFigures:
        """The figures of the row's compared arm, in the A/A row of the baseline's second instance."""
        return self.cell.arms[1]


def cell_rows(figures: Figures, schema: int) -> list[CellRow]:
    """The rows of comparison.csv in that schema."""
    floor_s = None if figures.floor is None else figures.floor.bound_s
    return [CellRow(cell, floor_s, emulated(figures.manifest), schema) for cell in figures.cells]


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
        "mean latency of the compared arm over that of the baseline, all requests",
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
        "mean paired difference, compared arm minus baseline, all requests",
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
        "on latency: `equivalent within the margin`, `inconclusive`, or the compared arm's name with `slower` or "
        "`faster`, such as `external slower`",
        lambda r: r.cell.verdict,
    ),
    Column(
        "claim_safe",
        "`yes` if there is a verdict and every gate passed; never where `check` finds anything",
        lambda r: yes(r.cell.claim_safe),
    ),
    Column(
        "faults_planned",
        "faults that the schedule puts on the compared arm",
        lambda r: str(len(r.second.faults.planned)),
    ),
    Column("faults_delivered", "of the compared arm", lambda r: str(len(r.second.faults.delivered))),
    Column("faults_observed", "of the compared arm", lambda r: str(len(r.second.faults.observed))),
    Column(
        "effects_lost",
        "of the compared arm; as in summary.csv",
        lambda r: r.cell.counted(r.second.effects.lost),
    ),
    Column(
        "effects_duplicate",
        "of the compared arm; as in summary.csv",
        lambda r: r.cell.counted(r.second.effects.duplicate),
    ),
    Column(
        "effects_phantom",
        "of the compared arm; as in summary.csv",
        lambda r: r.cell.counted(r.second.effects.phantom),
    ),
    Column(
        "baseline_faults_planned",
        "faults that the schedule puts on the baseline (of an arm without hops only where they act at the tool itself)",
        lambda r: str(len(r.first.faults.planned)),
        was="internal_faults_planned",
    ),
    Column(
        "baseline_faults_delivered",
        "of the baseline",
        lambda r: str(len(r.first.faults.delivered)),
        was="internal_faults_delivered",
    ),
    Column(
        "baseline_faults_observed",
        "of the baseline",
        lambda r: str(len(r.first.faults.observed)),
        was="internal_faults_observed",
    ),
    Column(
        "baseline_effects_lost",
        "of the baseline",
        lambda r: r.cell.counted(r.first.effects.lost),
        was="internal_effects_lost",
    ),
    Column(
        "baseline_effects_duplicate",
        "of the baseline",
        lambda r: r.cell.counted(r.first.effects.duplicate),
        was="internal_effects_duplicate",
    ),
    Column(
        "baseline_effects_phantom",
        "of the baseline",
        lambda r: r.cell.counted(r.first.effects.phantom),
        was="internal_effects_phantom",
    ),
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
        "`same errors`, `inconclusive`, or the compared arm's name with `fails more` or `fails less`",
        lambda r: r.cell.reliability_verdict,
    ),
    Column(
        "error_rate_delta",
        "error rate of the compared arm less that of the baseline",
        lambda r: _rate(r, "value"),
    ),
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
        lambda r: " ".join(gate.name for gate in r.cell.gates if gate.failed),
    ),
    Column(
        "gates_not_applicable",
        "names of the gates that say nothing of these arms, and so have not passed either",
        lambda r: " ".join(gate.name for gate in r.cell.gates if not gate.applicable),
        since=3,
    ),
    Column("cell", "short name of the profile", lambda r: r.cell.config.name),
    Column("baseline", "name of the baseline", lambda r: r.cell.sides.baseline.name, since=2),
    Column("compared", "name of the compared arm", lambda r: r.cell.sides.compared.name, since=2),
    Column(
        "network",
        "`emulated` and the network profile that the hops were made to be like; empty where they were as they are",
        lambda r: r.network,
        since=2,
    ),
    Column("schema", "what the columns are called and mean", lambda r: str(r.schema), since=2),
)


def _ratio(estimate: Estimate | None, name: str) -> str:
    return "" if estimate is None else number(getattr(estimate, name), 4)


def _delta(estimate: Estimate | None, name: str) -> str:
    return "" if estimate is None else ms(getattr(estimate, name))


def _rate(row: CellRow, name: str) -> str:
    rates = row.cell.reliability.rates
    return "" if rates is None else number(getattr(rates, name), 4)


def _significant(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
