"""A campaign as it runs, on a terminal: the table filling in with its intervals, the faults ahead, the last errors.

Nothing here runs beside a timed request. There is no thread; an event is only kept, and everything is worked out and
drawn between two pairs, when the runner says that nothing is in flight, and then once in `PERIOD_S` at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from matrices.cli.progress import CampaignProgress, campaign_bar
from matrices.evidence import events as ev
from matrices.planning.expectation import Expectation
from matrices.report.formats import ms, number
from matrices.report.live import LiveCampaign, LiveRow
from matrices.statistics.estimates import Estimate

PERIOD_S = 1.0

_LEGEND = "provisional: void pairs and verdicts are for the checker, at the end"


class LiveProgress:
    """The view of a campaign on a terminal."""

    def __init__(
        self,
        *,
        pairs: int,
        expectations: Sequence[Expectation],
        margin: float,
        restarts: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._drawn_s = float("-inf")
        self._campaign = LiveCampaign(expectations, margin=margin, restarts=restarts)
        self._progress = campaign_bar(auto_refresh=False)
        self._all = self._progress.add_task("", total=pairs)
        self._live = Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()
        self._live.stop()

    def cell(self, name: str, pairs: int, done: int) -> None:
        """Says that a cell begins, `done` of its pairs complete already."""
        self._progress.update(self._all, description=name, advance=done)

    def pair(self, name: str) -> None:
        """Says that a pair of the cell is complete."""
        self._progress.advance(self._all)

    def event(self, event: ev.Event) -> None:
        """Keeps the event."""
        self._campaign.take(event)

    def idle(self) -> None:
        """Draws what is known by now, if that was not done a moment ago."""
        if self._now() - self._drawn_s >= PERIOD_S:
            self._draw()

    def _draw(self) -> None:
        self._live.update(self._view(), refresh=True)
        # After the work, so that on a slow machine drawing takes no larger share of the time.
        self._drawn_s = self._now()

    def _view(self) -> Group:
        rows = self._campaign.rows()
        baseline, compared = rows[-1].arms
        headings = (
            "profile",
            "pairs",
            f"{baseline} ms",
            f"{compared} ms",
            "ratio [CI95]",
            "difference ms [CI95]",
            "errors",
        )
        table = Table(*headings, box=box.SIMPLE_HEAD, caption=_LEGEND, caption_justify="left")
        for row in rows:
            table.add_row(*map(Text, _cells(row)))
        parts: list[Progress | Table | Text] = [self._progress, table]
        if ahead := self._campaign.ahead:
            parts.append(Text(f"next: {ahead}"))
        parts += [
            Text(
                f"{error.cell} {error.task_id} {error.arm}: {error.what} "
                f"({error.fault_id or 'no fault is known to have caused it'})",
                style="red",
            )
            for error in self._campaign.errors
        ]
        return Group(*parts)


def progress_of(
    *, live: bool, pairs: int, expectations: Sequence[Expectation], margin: float, restarts: int
) -> CampaignProgress | LiveProgress:
    """The live view where it was asked for and stderr is a terminal, else plain progress."""
    if live and Console(stderr=True).is_terminal:
        return LiveProgress(pairs=pairs, expectations=expectations, margin=margin, restarts=restarts)
    return CampaignProgress(pairs=pairs)


def _cells(row: LiveRow) -> tuple[str, ...]:
    means = ("-", "-") if row.means_s is None else tuple(ms(mean, 1) for mean in row.means_s)
    latency = row.latency
    return (
        row.cell,
        f"{row.done}/{row.pairs}",
        *means,
        "-" if latency is None else _interval(latency.ratio, lambda value: number(value, 3)),
        "-" if latency is None else _interval(latency.delta, lambda value: ms(value, 1, sign=True)),
        f"{row.errors[0]} / {row.errors[1]}",
    )


def _interval(estimate: Estimate | None, written: Callable[[float], str]) -> str:
    """The estimate with its interval; dots where there are too few blocks for one yet."""
    if estimate is None:
        return "..."
    return f"{written(estimate.value)} [{written(estimate.low)}, {written(estimate.high)}]"
