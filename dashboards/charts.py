"""What a dashboard is, before anybody lays it out: charts of queries, in rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "states"]
Requires = Literal["", "gpu"]

WINDOW = "$__rate_interval"
"""What Grafana puts a rate's window for."""

ARM, PROFILE = 'arm=~"$arm"', 'profile=~"$profile"'
BOTH = f"{ARM}, {PROFILE}"
"""The filters that a dashboard's two variables are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A query of PromQL, and what its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One panel: what it answers, in which unit of Grafana's; `requires` says what its queries are empty without."""

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str
    kind: Kind = "timeseries"
    requires: Requires = ""
    width: int = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """Moments that are marked in every panel: where the query gives more than nothing."""

    name: str
    expr: str
    color: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A dashboard: its rows by title, and which of the variables arm and profile it can be narrowed by."""

    uid: str
    title: str
    text: str
    rows: dict[str, tuple[Chart, ...]]
    annotations: tuple[Annotation, ...] = ()
    by_arm: bool = True

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Every chart, row after row."""
        return tuple(chart for row in self.rows.values() for chart in row)


def quantiles(metric: str, by: str, where: str = "") -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram, for each of the labels in `by`."""
    return tuple(
        Query(
            expr=f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{where}}}[{WINDOW}])))",
            legend=f"{_legend(by)} {name}",
        )
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )


def count(metric: str, by: str, where: str = "") -> Query:
    """What a counter has come to, for each of the labels in `by`: its first is an increase to nobody but a reader."""
    return Query(expr=f"sum by ({by}) ({metric}{{{where}}})", legend=_legend(by))


def rate(metric: str, by: str, where: str = "") -> Query:
    """How often a counter counts in a second, for each of the labels in `by`."""
    return Query(expr=f"sum by ({by}) (rate({metric}{{{where}}}[{WINDOW}]))", legend=_legend(by))


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
