"""How far a campaign is, on stderr: a bar over all its pairs on a terminal, a line of the log for each cell."""

from __future__ import annotations

import logging
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from matrices.evidence import events as ev

_log = logging.getLogger(__name__)


def campaign_bar(**options: Any) -> Progress:
    """A bar for pairs, with the cell that runs, the time so far and the time to go."""
    return Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pairs,"),
        TimeElapsedColumn(),
        TextColumn("so far,"),
        TimeRemainingColumn(),
        TextColumn("to go"),
        **options,
    )


class CampaignProgress:
    """One bar for the whole campaign."""

    def __init__(self, *, pairs: int) -> None:
        console = Console(stderr=True)
        self._bar = campaign_bar(console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=pairs)

    def __enter__(self) -> CampaignProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def cell(self, name: str, pairs: int, done: int) -> None:
        """Says that a cell begins, `done` of its pairs complete already."""
        self._bar.update(self._task, description=name, advance=done)
        _log.info("cell begins", extra={"cell": name, "pairs": pairs, "done": done})

    def pair(self, name: str) -> None:
        """Says that a pair of the cell is complete."""
        self._bar.advance(self._task)

    def event(self, event: ev.Event) -> None:
        """Hears of an event that was written, and has no use for it."""

    def idle(self) -> None:
        """Hears that nothing is in flight, and has nothing to do."""
