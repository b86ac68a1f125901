"""Follows a campaign's folder while another process writes it: reads what is new, takes no lock, writes nothing."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matrices.evidence import chain
from matrices.evidence import events as ev
from matrices.evidence.history import CellState
from matrices.evidence.kept import HISTORY, MANIFEST
from matrices.evidence.manifest import Manifest, ManifestCell, read_manifest
from matrices.planning.plan import AA_CELL
from treni.errors import TreniError
from treni.storage import reading, whole_lines

QUIET_S = 120.0
"""How long an unfinished history may not have grown before nobody is taken to write it: a model may take so long to
load."""

State = Literal["running", "stopped", "finished", "unreadable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmProgress:
    """One arm of a cell so far, over the pairs that are complete."""

    arm: str
    requests: int
    errors: int
    retries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CellProgress:
    """One cell so far: `done` of `pairs` pairs; `state` is "waiting", "running", "complete" or "broken"."""

    cell: str
    profile: str
    title: str
    pairs: int
    done: int
    state: str
    arms: tuple[ArmProgress, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What the summary of a finished campaign says of a cell."""

    cell: str
    verdict: str
    claim_safe: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A campaign so far, in its `folder`; its history grew `quiet_s` ago. `problem` says why it cannot be read."""

    name: str
    folder: Path
    state: State
    manifest: Manifest | None
    cells: tuple[CellProgress, ...]
    quiet_s: float
    summary: tuple[Row, ...]
    problem: str

    @property
    def pairs(self) -> int:
        """The pairs that are planned."""
        return sum(cell.pairs for cell in self.cells)

    @property
    def done(self) -> int:
        """The pairs that are complete."""
        return sum(cell.done for cell in self.cells)


class Followed:
    """A campaign's folder, and what was read of its history; each line is read once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._manifest: Manifest | None = None
        self._restart()

    def look(self) -> Progress:
        """The campaign so far, with what was written since the last look."""
        problem = ""
        try:
            with reading(self.folder / MANIFEST, "a manifest"):
                self._manifest = self._manifest or read_manifest(self.folder / MANIFEST)
            self._read_on()
        except TreniError as error:
            problem = str(error)
        quiet_s = max(0.0, time.time() - self._grown_s)
        state: State = "running" if quiet_s < QUIET_S else "stopped"
        if self._sealed:
            state = "finished"
        if problem or self._manifest is None:
            state = "unreadable"
        return Progress(
            name=self.name,
            folder=self.folder,
            state=state,
            manifest=self._manifest,
            cells=() if self._manifest is None else tuple(map(self._cell, self._manifest.cells)),
            quiet_s=quiet_s,
            summary=_summary(self.folder / "summary.json") if state == "finished" else (),
            problem=problem,
        )

    def _restart(self) -> None:
        self._offset = 0
        self._lines = 0
        self._digest = chain.START
        self._cells: dict[str, CellState] = {}
        self._sealed = False
        self._grown_s = 0.0

    def _read_on(self) -> None:
        path = self.folder / HISTORY
        with reading(path, "a history"), path.open("rb") as file:
            status = path.stat()
            self._grown_s = status.st_mtime
            if status.st_size < self._offset:  # another file, as whole lines never go
                self._restart()
                self._grown_s = status.st_mtime
            file.seek(self._offset)
            lines, _ = whole_lines(file.read())
        for line in lines:
            number = self._lines + 1
            body = chain.unlink(line, self._digest, name=HISTORY, number=number)
            self._take(ev.parse_event(body, where=f"{HISTORY} line {number}"))
            self._lines, self._digest = number, chain.digest(line)
            self._offset += len(line) + 1

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.Sealed):
            self._sealed = True
        elif not isinstance(event, ev.Opened | ev.Resumed):
            self._cells.setdefault(event.cell, CellState(cell=event.cell)).fold(event)

    def _cell(self, config: ManifestCell) -> CellProgress:
        assert self._manifest is not None
        # The suite's tasks are those of the A/A cell, in their order; the other cells have them for each fault seed.
        seeds = 1 if config.name == AA_CELL else self._manifest.fault_seeds
        seen = self._cells.get(config.name)
        return CellProgress(
            cell=config.name,
            profile=config.profile,
            title=config.title,
            pairs=len(self._manifest.suite.tasks) * seeds,
            done=0 if seen is None else len(seen.completed),
            state="waiting" if seen is None else "running" if seen.ended is None else seen.ended.status,
            arms=tuple(_arm(arm, seen) for arm in config.arms),
        )


def _arm(arm: str, seen: CellState | None) -> ArmProgress:
    pairs = () if seen is None else tuple(seen.completed.values())
    outcomes = [pair.outcomes[arm] for pair in pairs if arm in pair.outcomes]
    return ArmProgress(
        arm=arm,
        requests=len(outcomes),
        errors=sum(one.outcome != "ok" for one in outcomes),
        retries=sum(
            attempt["attempt"] > 0 for one in outcomes for attempt in (one.record or {}).get("attempts", ())
        ),
    )


def _summary(path: Path) -> tuple[Row, ...]:
    """The rows of a summary; none where there is none that can be read. Whoever opens the report has it judged anew."""
    try:
        told: Any = json.loads(path.read_bytes())
        return tuple(
            Row(cell=str(one["cell"]), verdict=str(one["verdict"]), claim_safe=one["claim_safe"] is True)
            for one in told["cells"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ()
