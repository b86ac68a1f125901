"""The append-only history of a campaign: written as it happens, read back whole, folded into the state of each cell.

Each event is one line of an append-only file (`treni.storage`), chained to the one before (`chain`), so `kill -9` at
any byte leaves every earlier line whole and at most one torn line at the end. The kernel keeps what was written,
whatever becomes of the process; `fsync` guards against the machine's own death and is called only when no request is
being timed: at the end of a block or a cell, and where the harness starts, since run ids count its starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from matrices.evidence import chain
from matrices.evidence import events as ev
from treni.errors import Code, TreniError
from treni.storage import AppendOnlyFile, reading, whole_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The events of a file in order, and how many bytes of a torn last line follow them.

    `digest` is that of the last whole line ("" for none), which the next line has to carry.
    """

    events: tuple[ev.Event, ...]
    torn_bytes: int
    digest: str

    @property
    def opened(self) -> ev.Opened | None:
        """The first line; None of a file without one."""
        return self.events[0] if self.events and isinstance(self.events[0], ev.Opened) else None

    @property
    def sealed(self) -> bool:
        """Whether the last line is the seal of a finished campaign."""
        return bool(self.events) and isinstance(self.events[-1], ev.Sealed)


def parse_history(data: bytes, *, name: str = "history.jsonl") -> History:
    """The history in `data`. A last line without its newline is torn and left out.

    Raises `TreniError` that names `name` and the line: `history_broken` for a line that does not follow the one
    before it, `history_malformed` for one that is not an event, or not at its place.
    """
    lines, torn_bytes = whole_lines(data)
    prev = chain.START
    parsed: list[ev.Event] = []
    for number, line in enumerate(lines, start=1):
        where = f"{name} line {number}"
        event = ev.parse_event(chain.unlink(line, prev, name=name, number=number), where=where)
        after_seal = bool(parsed) and isinstance(parsed[-1], ev.Sealed)
        if isinstance(event, ev.Opened) != (number == 1) or after_seal:
            raise _misplaced(event.type, where)
        parsed.append(event)
        prev = chain.digest(line)
    history = History(events=tuple(parsed), torn_bytes=torn_bytes, digest=prev)
    if history.sealed and history.torn_bytes:
        raise _misplaced(f"{history.torn_bytes} bytes", name)
    return history


def _misplaced(got: str, where: str) -> TreniError:
    return TreniError(
        Code.DATA_LOSS,
        "history_malformed",
        expected='"opened" on the first line and nowhere else, and nothing after "sealed"',
        got=f"{got} at {where}",
        todo="restore the file; it was not written by this version, or was edited",
        definite=True,
    )


def read_history(path: Path) -> History:
    """The history in the file at `path`; see `parse_history`."""
    with reading(path, "a history"):
        data = path.read_bytes()
    return parse_history(data, name=str(path))


class HistoryWriter:
    """Appends events to a history file that no other process writes.

    `HistoryWriter.create` starts a new file, `HistoryWriter.resume` takes up an old one.
    """

    def __init__(self, file: AppendOnlyFile, *, digest: str) -> None:
        self._file = file
        self._digest = digest

    @property
    def digest(self) -> str:
        """The digest of the last line written."""
        return self._digest

    @classmethod
    def create(cls, path: Path, opened: ev.Opened) -> HistoryWriter:
        """A writer on a new file that begins with `opened`. Raises `TreniError` (`file_exists`) if there is one."""
        file = AppendOnlyFile.own(path, new=True)
        writer = cls(file, digest=chain.START)
        try:
            writer.append(opened)
        except BaseException:
            file.close()
            raise
        return writer

    @classmethod
    def resume(cls, path: Path, *, wall_time: str) -> tuple[HistoryWriter, tuple[ev.Event, ...]]:
        """A writer at the end of an interrupted history, and the events in it.

        A torn last line is cut off and a `Resumed` event says so. Raises `TreniError` for a malformed or broken file
        (which stays as it was), or one that another process is writing (`file_in_use`).
        """
        file = AppendOnlyFile.own(path, new=False)
        try:
            history = read_history(path)
            writer = cls(file, digest=history.digest)
            resumed = ev.Resumed(wall_time=wall_time, cut_bytes=file.cut_torn())
            writer.append(resumed)
        except BaseException:
            file.close()
            raise
        return writer, (*history.events, resumed)

    def append(self, event: ev.Event) -> None:
        """Writes one event.

        Raises `TreniError` (`disk_full`) if the disk did not take it whole; the file then ends with the event
        before.
        """
        line = chain.link(ev.dump_event(event), self._digest)
        self._file.append(line, durable=_must_outlive_the_machine(event))
        self._digest = chain.digest(line)

    def close(self) -> None:
        """Makes the file durable and lets it go."""
        try:
            self._file.sync()
        finally:
            self._file.close()

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _must_outlive_the_machine(event: ev.Event) -> bool:
    """Whether the event ends a stretch in which requests are timed, or counts the starts that run ids are made of."""
    if isinstance(event, ev.Block):
        return event.phase == "end"
    return isinstance(event, ev.Opened | ev.Resumed | ev.CellEnded | ev.Sealed)


CellEvent: TypeAlias = (
    ev.CellStarted
    | ev.Block
    | ev.PairStarted
    | ev.Invoke
    | ev.Outcome
    | ev.PairCompleted
    | ev.Abandon
    | ev.Discard
    | ev.Deliveries
    | ev.Effects
    | ev.Outage
    | ev.Restarted
    | ev.Struck
    | ev.Healed
    | ev.CellEnded
)
"""What happens within one cell."""


@dataclass(kw_only=True, slots=True)
class PairState:
    """One pair as far as the history tells it: what was planned, and each arm's invoke and outcome."""

    started: ev.PairStarted
    invokes: dict[str, ev.Invoke] = field(default_factory=dict)
    outcomes: dict[str, ev.Outcome] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class CellState:
    """One cell as far as the history tells it.

    `completed` and `begun` are disjoint and keyed by pair; what `begun` holds at the end must be abandoned and run
    again. `repeated` are pairs that began or completed again without having been abandoned, `stray` are events
    that belong to no pair in progress: both are the checker's to report. `abandoned` are the pairs that an
    interruption cut short, once for each time. `blocks` has the marks of each block in the order written. `ended` is
    the last `CellEnded` after the last start, if any. After a discard everything begins anew but `discards` itself
    and `pairs_discarded`, how many pairs the cell had begun each time.
    """

    cell: str
    starts: list[ev.CellStarted] = field(default_factory=list)
    completed: dict[int, PairState] = field(default_factory=dict)
    begun: dict[int, PairState] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    abandoned: list[int] = field(default_factory=list)
    superseded_runs: set[str] = field(default_factory=set)
    blocks: dict[int, list[ev.Block]] = field(default_factory=dict)
    deliveries: dict[str, tuple[ev.Delivery, ...]] = field(default_factory=dict)
    effects: dict[str, tuple[ev.EffectRow, ...]] = field(default_factory=dict)
    outages: list[ev.Outage] = field(default_factory=list)
    restarts: list[ev.Restarted] = field(default_factory=list)
    struck: list[ev.Struck] = field(default_factory=list)
    healed: list[ev.Healed] = field(default_factory=list)
    ended: ev.CellEnded | None = None
    discards: list[ev.Discard] = field(default_factory=list)
    pairs_discarded: int = 0

    def fold(self, event: CellEvent) -> None:
        """Takes the next event of the cell into account."""
        _fold(self, event)

    def attempts(self, *, arm: str, hop: str) -> int:
        """How many attempts, retries included, the arm's runs in completed pairs made on the hop.

        The schedule's attempt counter has advanced by this many.
        """
        outcomes = [pair.outcomes.get(arm) for pair in self.completed.values()]
        records = [
            outcome.record for outcome in outcomes if outcome is not None and outcome.record is not None
        ]
        return sum(attempt["hop"] == hop for record in records for attempt in record["attempts"])


def state_of(events: Iterable[ev.Event]) -> dict[str, CellState]:
    """The state of each cell that the events speak of, in the order of their first mention."""
    cells: dict[str, CellState] = {}
    for event in events:
        if not isinstance(event, ev.Opened | ev.Resumed | ev.Sealed):
            _fold(cells.setdefault(event.cell, CellState(cell=event.cell)), event)
    return cells


def standing(events: Iterable[ev.Event]) -> tuple[ev.Event, ...]:
    """The events that count, in order: those of a cell before its last discard left out."""
    kept: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.Discard):
            kept = [one for one in kept if getattr(one, "cell", None) != event.cell]
        else:
            kept.append(event)
    return tuple(kept)


def _fold(cell: CellState, event: CellEvent) -> None:
    match event:
        case ev.CellStarted():
            cell.starts.append(event)
            cell.ended = None
        case ev.Block():
            cell.blocks.setdefault(event.block, []).append(event)
        case ev.PairStarted():
            if event.pair in cell.begun or event.pair in cell.completed:
                cell.repeated.append(event.pair)
            else:
                cell.begun[event.pair] = PairState(started=event)
        case ev.Invoke() | ev.Outcome():
            _fold_run(cell, event)
        case ev.PairCompleted():
            _complete(cell, event.pair)
        case ev.Abandon():
            cell.superseded_runs.update(event.run_ids)
            cell.abandoned.append(event.pair)
            if cell.begun.pop(event.pair, None) is None:
                cell.stray.append(f"abandon of pair {event.pair}, which was not in progress")
        case ev.Discard():
            pairs = (
                cell.pairs_discarded + len(cell.begun.keys() | cell.completed.keys()) + len(cell.abandoned)
            )
            fresh = CellState(cell=cell.cell, discards=[*cell.discards, event], pairs_discarded=pairs)
            for name in CellState.__dataclass_fields__:
                setattr(cell, name, getattr(fresh, name))
        case ev.Deliveries():
            cell.deliveries[event.arm] = event.faults
        case ev.Effects():
            cell.effects[event.arm] = event.rows
        case ev.Outage():
            cell.outages.append(event)
        case ev.Restarted():
            cell.restarts.append(event)
        case ev.Struck():
            cell.struck.append(event)
        case ev.Healed():
            cell.healed.append(event)
        case ev.CellEnded():
            cell.ended = event


def _fold_run(cell: CellState, event: ev.Invoke | ev.Outcome) -> None:
    pair = cell.begun.get(event.pair)
    what = f"{event.type} of pair {event.pair}, arm {event.arm}, run {event.run_id}"
    if pair is None:
        cell.stray.append(f"{what}: the pair was not in progress")
    elif event.arm not in pair.started.order:
        cell.stray.append(f"{what}: the pair has no such arm")
    elif isinstance(event, ev.Invoke):
        if event.arm in pair.invokes:
            cell.stray.append(f"{what}: the arm had been invoked")
        else:
            pair.invokes[event.arm] = event
    elif event.arm not in pair.invokes or pair.invokes[event.arm].run_id != event.run_id:
        cell.stray.append(f"{what}: the run was not invoked")
    elif event.arm in pair.outcomes:
        cell.stray.append(f"{what}: the arm had an outcome")
    else:
        pair.outcomes[event.arm] = event


def _complete(cell: CellState, pair: int) -> None:
    state = cell.begun.pop(pair, None)
    if state is not None:
        cell.completed[pair] = state
    elif pair in cell.completed:
        cell.repeated.append(pair)
    else:
        cell.stray.append(f"completion of pair {pair}, which was not in progress")
