"""The grammar of a history: which event may follow which, under which start of processes each pair ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from matrices.arms.arm import PROXY
from matrices.checks.finding import Finding, FindingKind, differs
from matrices.evidence import events as ev
from matrices.evidence.manifest import Manifest, ManifestCell
from matrices.planning.expectation import Expectation, ExpectedPair

LOCAL = "local"
"""The topology that starts every process itself, and the proxies' too."""


@dataclass(kw_only=True, slots=True)
class Structure:
    """What the walk along the events found.

    `starts` has for each (cell, pair) the start under which it last ran, `abandoned` for each cell and arm the pair of
    each run that an interruption cut short, `restarted` the processes that came up in a role's place under a start.
    """

    findings: list[Finding] = field(default_factory=list)
    abandoned: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    starts: dict[tuple[str, int], ev.CellStarted] = field(default_factory=dict)
    restarted: dict[tuple[str, int, int, str], set[int]] = field(default_factory=dict)

    def pids(self, cell: str, pair: int, role: str) -> frozenset[int]:
        """The processes that had the role under the pair's start; none for a pair under no start."""
        start = self.starts.get((cell, pair))
        if start is None:
            return frozenset()
        later = self.restarted.get((cell, start.epoch, start.segment, role), set())
        return frozenset({start.pids[role]} if role in start.pids else ()) | later


def structure(
    manifest: Manifest, events: Iterable[ev.Event], expectations: Sequence[Expectation]
) -> Structure:
    """Walks along the history as its writer must have gone."""
    walk = _Walk(
        manifest=manifest,
        cells={cell.name: _Cell(config=cell) for cell in manifest.cells},
        expected={expectation.cell: expectation for expectation in expectations},
    )
    for event in events:
        walk.step(event)
    return walk.result


@dataclass(kw_only=True, slots=True)
class _Pair:
    """A pair in progress: the arms and runs invoked so far, and how many of them have ended."""

    runs: list[tuple[str, str]] = field(default_factory=list)
    ended: int = 0


@dataclass(kw_only=True, slots=True)
class _Cell:
    """One cell as far as it has come: `begun` has the pairs in progress, `blocks` the blocks that are open.

    `batch` is how many pairs the open blocks still have to run, None once the first run of them has ended; `last` is
    the last pair that began under the present start; `logs` are the logs written so far; `most` is how many pairs were
    told of as too many at once.
    """

    config: ManifestCell
    segment: int | None = None
    begun: dict[int, _Pair] = field(default_factory=dict)
    completed: set[int] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)
    batch: int | None = None
    last: int = -1
    logs: list[tuple[str, str]] = field(default_factory=list)
    most: int = 0
    ended: bool = False
    broken: bool = False


@dataclass(kw_only=True, slots=True)
class _Walk:
    """Where the writer is: `open` names the cell whose processes run, `resuming` tells of what precedes its start."""

    manifest: Manifest
    cells: dict[str, _Cell]
    expected: dict[str, Expectation]
    result: Structure = field(default_factory=Structure)
    epoch: int = 0
    open: ev.CellStarted | None = None
    resuming: bool = False

    def step(self, event: ev.Event) -> None:
        """Takes the next event."""
        match event:
            case ev.Opened():
                return
            case ev.Resumed():
                self._resume(event)
                return
            case ev.Sealed():
                if not all(cell.ended and not cell.broken for cell in self.cells.values()):
                    self._stray("", "sealed before every cell ended, and none broken")
                return
            case ev.Discard():
                self._discard(event)
                return
            case ev.Abandon():
                cell = self.cells.get(event.cell)
                if cell is not None:
                    self._abandon(cell, event)
                return
        self.resuming = False
        cell = self.cells.get(event.cell)
        if cell is None:
            return  # told of as a cell that was not planned
        if isinstance(event, ev.CellStarted):
            self._start(cell, event)
        elif self.open is None or self.open.cell != event.cell:
            self._stray(event.cell, f"{event.type}: the cell's processes do not run")
        else:
            self._within(cell, event, self.open)

    def _found(self, kind: FindingKind, cell: str, detail: str, pair: int | None = None) -> None:
        self.result.findings.append(Finding(kind=kind, cell=cell, pair=pair, detail=detail))

    def _stray(self, cell: str, detail: str, pair: int | None = None) -> None:
        self._found("event_stray", cell, detail, pair)

    def _pairs(self, cell: _Cell) -> tuple[ExpectedPair, ...]:
        return self.expected[cell.config.name].pairs

    def _resume(self, event: ev.Resumed) -> None:
        self.epoch += 1
        self.open, self.resuming = None, True
        if event.cut_bytes < 0:
            self._stray("", f"resumed with {event.cut_bytes} bytes cut off")
        for cell in self.cells.values():
            cell.blocks.clear()
            cell.segment = None
            if not cell.ended:
                cell.logs.clear()

    def _abandon(self, cell: _Cell, event: ev.Abandon) -> None:
        pair = cell.begun.pop(event.pair, None)
        if not self.resuming:
            self._stray(event.cell, "abandoned, without a resumption before it", event.pair)
        runs = [] if pair is None else pair.runs
        run_ids = tuple(run_id for _, run_id in runs)
        if run_ids != event.run_ids:
            self._stray(event.cell, differs("runs abandoned", run_ids, event.run_ids), event.pair)
        gone = self.result.abandoned.setdefault(event.cell, {})
        for arm, run_id in runs:
            gone.setdefault(arm, {})[run_id] = event.pair

    def _discard(self, event: ev.Discard) -> None:
        """Nothing of the cell counts any more, what was found in it neither."""
        cell = self.cells.get(event.cell)
        if cell is None:
            return
        found = self.result.findings
        found[:] = [one for one in found if one.cell != event.cell]
        if not self.resuming or not cell.broken:
            self._stray(event.cell, "discarded, without a resumption before it or without having broken")
        self.result.abandoned.pop(event.cell, None)
        self.cells[event.cell] = _Cell(config=cell.config)

    def _start(self, cell: _Cell, event: ev.CellStarted) -> None:
        name, expected = event.cell, self.expected[event.cell]
        todo = [pair.segment for pair in expected.pairs if pair.pair not in cell.completed]
        segment = min(todo, default=expected.pairs[-1].segment)
        counters = expected.counts(cell.completed)
        roles = set(expected.roles)
        here = set(event.pids)
        if self.manifest.topology != LOCAL:
            here.discard(PROXY)  # what runs elsewhere may have its proxies there, or from us
        elif self.manifest.details.get(PROXY) is None:
            roles |= {PROXY}
        # Each host counts its processes by itself: only on one machine are they told apart by their numbers.
        known: list[Mapping[str, object]] = [event.epochs] if event.epochs else []
        known += [event.pids] if self.manifest.topology == LOCAL or not event.epochs else []
        for what, want, got in (
            ("profile", cell.config.profile, event.profile),
            ("arms", expected.arms, event.arms),
            ("epoch", self.epoch, event.epoch),
            ("segment", segment, event.segment),
            ("attempt counters", counters, event.start_counter),
            ("roles", sorted(roles), sorted(here)),
            *(("processes", len(of), len(set(of.values()) - {0, 1, ""})) for of in known),
            ("epochs", sorted(set(event.pids) - {PROXY}) if event.epochs else [], sorted(event.epochs)),
        ):
            if want != got:
                self._found("start_not_as_planned", name, differs(what, want, got))
        before = list(self.cells)[: list(self.cells).index(name)]
        if cell.ended or not all(self.cells[one].ended for one in before):
            self._stray(name, "started out of turn")
        if self.open is not None and (self.open.cell != name or cell.segment == event.segment or cell.begun):
            self._stray(name, "started while processes ran")
        self.open, cell.segment, cell.last, cell.batch = event, event.segment, -1, None
        cell.blocks.clear()

    def _within(self, cell: _Cell, event: ev.Event, start: ev.CellStarted) -> None:
        match event:
            case ev.Block():
                self._mark(cell, event, start)
            case ev.PairStarted():
                self._pair(cell, event, start)
            case ev.Invoke():
                pair = cell.begun.get(event.pair, _Pair())
                if pair.ended < len(pair.runs):
                    self._stray(event.cell, f"{event.run_id} began beside the other run", event.pair)
                pair.runs.append((event.arm, event.run_id))
            case ev.Outcome():
                self._in_flight(cell)
                cell.begun.get(event.pair, _Pair()).ended += 1
            case ev.PairCompleted():
                cell.completed |= {event.pair} & set(cell.begun)
                cell.begun.pop(event.pair, None)
            case ev.Deliveries() | ev.Effects():
                self._log(cell, event)
            case ev.Outage() | ev.Restarted() if not self.expected[event.cell].breaks_hosts:
                self._stray(event.cell, f"{event.type} of the {event.role}, which no fault breaks")
            case ev.Struck() | ev.Healed() if not self.expected[event.cell].disturbs:
                self._stray(event.cell, f"{event.type}: {event.fault_id}, which no schedule has")
            case ev.Healed():
                for role, pid in event.pids.items():
                    key = (event.cell, start.epoch, start.segment, role)
                    self.result.restarted.setdefault(key, set()).add(pid)
            case ev.Restarted() if event.pid < 2 or event.pid in start.pids.values():
                self._found(
                    "start_not_as_planned", event.cell, f"the {event.role} is back as process {event.pid}"
                )
            case ev.Restarted():
                key = (event.cell, start.epoch, start.segment, event.role)
                self.result.restarted.setdefault(key, set()).add(event.pid)
            case ev.CellEnded():
                wanted = [(kind, arm) for arm in cell.config.arms for kind in ("deliveries", "effects")]
                cell.broken = event.status == "broken"
                if not cell.broken and (cell.logs != wanted or cell.blocks or cell.begun):
                    self._stray(event.cell, differs("before the cell's end", wanted, cell.logs))
                cell.ended, self.open = True, None

    def _mark(self, cell: _Cell, event: ev.Block, start: ev.CellStarted) -> None:
        mine = [pair for pair in self._pairs(cell) if pair.block == event.block]
        left = {pair.pair for pair in mine} - cell.completed
        what = f"{event.phase} of block {event.block}"
        if not mine or mine[0].segment != start.segment:
            self._stray(event.cell, f"{what}: it has no place here")
        elif event.phase == "start" and (event.block in cell.blocks or not left):
            self._stray(event.cell, f"{what}: it was open, or is over")
        elif event.phase == "end" and (event.block not in cell.blocks or left):
            self._stray(event.cell, f"{what}: it was not open, or is not over")
        elif event.phase == "start" and cell.begun:
            self._stray(event.cell, f"{what}: pairs are in progress")
        if event.phase == "start":
            cell.blocks.add(event.block)
            cell.batch = (cell.batch or 0) + len(left)
        else:
            cell.batch = None
            cell.blocks.discard(event.block)

    def _pair(self, cell: _Cell, event: ev.PairStarted, start: ev.CellStarted) -> None:
        if event.block not in cell.blocks:
            self._stray(event.cell, f"the pair's block {event.block} is not open", event.pair)
        if event.pair <= cell.last:
            self._stray(event.cell, f"begun after pair {cell.last}", event.pair)
        if len(cell.begun) >= max(self.manifest.concurrency, cell.most):
            cell.most = len(cell.begun) + 1
            self._stray(event.cell, f"begun beside {len(cell.begun)} others", event.pair)
        cell.last = max(cell.last, event.pair)
        cell.begun.setdefault(event.pair, _Pair())
        self.result.starts[event.cell, event.pair] = start

    def _in_flight(self, cell: _Cell) -> None:
        """As many pairs as the campaign allows are in flight before the first run of a batch ends."""
        if cell.batch is not None:
            wanted = min(self.manifest.concurrency, cell.batch)
            if len(cell.begun) != wanted:
                self._stray(cell.config.name, differs("pairs in flight", wanted, len(cell.begun)))
            cell.batch = None

    def _log(self, cell: _Cell, event: ev.Deliveries | ev.Effects) -> None:
        left = {pair.pair for pair in self._pairs(cell)} - cell.completed
        if left or cell.blocks or cell.begun:
            self._stray(event.cell, f"{event.type} of {event.arm} before every pair and block was over")
        cell.logs.append((event.type, event.arm))
