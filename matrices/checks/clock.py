"""The campaign's clocks along the history: each step after the one before, none too far from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from matrices.checks.finding import Finding
from matrices.checks.tolerances import CLOCK_S, GAP_S, START_S, WALL_STEP_S, never_quiet_s
from matrices.evidence import events as ev


def of_clocks(
    events: Iterable[ev.Event],
    *,
    created_utc: str,
    concurrency: int,
    holding: Collection[str],
    slowness: Mapping[str, Mapping[int, float]] = {},
) -> Iterator[Finding]:
    """Findings about the harness's monotonic clock at invokes, block marks and outcomes, and about wall time.

    An outcome tells no time of its own: it came `latency_s` after its invoke. In the cells `holding` each step waits
    until every process has answered once more, so that none follows another at once. `slowness` is that of each cell's
    blocks, 1 where there is none.
    """
    clock = _Clock(concurrency=concurrency, holding=holding, slowness=slowness, wall_s=_wall_s(created_utc))
    if clock.wall_s is None:
        yield Finding(kind="clock_impossible", cell="", detail=f"the campaign was made at {created_utc!r}")
    for event in events:
        match event:
            case ev.Resumed():
                yield from clock.resume(event)
            case ev.CellStarted():
                clock.start()
            case ev.Outage():
                yield from clock.back(event, event.start_s, event.end_s)
            case ev.Restarted():
                yield from clock.back(event, event.died_s, event.serving_s)
            case ev.Block():
                yield from clock.mark(event)
            case ev.Invoke():
                yield from clock.invoke(event)
            case ev.Outcome():
                clock.outcome(event)
            case _:
                pass
    yield from clock.unlikely()


@dataclass(kw_only=True, slots=True)
class _Clock:
    """Where the clocks are.

    `now_s` is the latest moment known (None after a resume: another boot may have begun). `last` is the arm whose run
    was the step before, and when it ended; `ended` the same for the run of a pair that ended last. `after` collects how
    soon something followed the runs of a cell's arm, and how slow the machine was then. `slow` is how slow it was in
    the block that was marked last.
    """

    concurrency: int
    holding: Collection[str]
    slowness: Mapping[str, Mapping[int, float]]
    wall_s: float | None
    now_s: float | None = None
    offset_s: float | None = None
    slow: float = 1.0
    starting: bool = True
    invoked_s: dict[str, float] = field(default_factory=dict)
    last: tuple[str, float] | None = None
    ended: dict[tuple[str, int], tuple[str, float]] = field(default_factory=dict)
    after: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)

    def resume(self, event: ev.Resumed) -> Iterator[Finding]:
        """The harness began again."""
        yield from self._wall(event.wall_time, "", "the resumption")
        self.now_s = self.offset_s = None
        # A pair that was cut short is run again from its start: its runs before do not say when.
        self.ended.clear()

    def start(self) -> None:
        """Processes come up: what was before does not say when."""
        self.starting, self.last = True, None

    def back(self, event: ev.Outage | ev.Restarted, gone_s: float, back_s: float) -> Iterator[Finding]:
        """A process is back: how long requests waited for it, nobody says."""
        if not gone_s <= back_s:
            detail = f"{event.type}: the {event.role} was back {gone_s - back_s:.3f} s before it was gone"
            yield Finding(kind="clock_impossible", cell=event.cell, detail=detail)
        self.now_s = max(back_s, back_s if self.now_s is None else self.now_s)
        self.start()

    def mark(self, event: ev.Block) -> Iterator[Finding]:
        """A block's start or end: after all that came before it."""
        what = f"the {event.phase} of block {event.block}"
        self.slow = self.slowness.get(event.cell, {}).get(event.block, 1.0)
        yield from self._step(event.cell, what, event.mono_s, self.last if self.concurrency == 1 else None)
        self.last = None

    def invoke(self, event: ev.Invoke) -> Iterator[Finding]:
        """A run begins."""
        what = f"the invoke of {event.run_id}"
        # With more requests in flight only the pair's own other run is known to be the step before.
        other = self.ended.get((event.cell, event.pair))
        before = self.last if self.concurrency == 1 else other
        yield from self._step(event.cell, what, event.mono_s, before)
        yield from self._wall(event.wall_time, event.cell, what, event.mono_s)
        self.invoked_s[event.run_id] = event.mono_s

    def outcome(self, event: ev.Outcome) -> None:
        """A run ended."""
        invoked_s = self.invoked_s.get(event.run_id)
        if invoked_s is None or not math.isfinite(event.latency_s):
            return
        ended_s = invoked_s + event.latency_s
        self.now_s = max(self.now_s or ended_s, ended_s)
        self.last = self.ended[event.cell, event.pair] = (event.arm, ended_s)

    def _step(self, cell: str, what: str, mono_s: float, run: tuple[str, float] | None) -> Iterator[Finding]:
        """`run` is the run that this step has to follow at once, where there is one."""
        before_s = self.now_s
        if before_s is not None and not mono_s - before_s >= -CLOCK_S:
            detail = f"{what} is {(before_s - mono_s) * 1e3:.3f} ms before the end of the step before it"
            yield Finding(kind="clock_impossible", cell=cell, detail=detail)
        followed_s = before_s if self.concurrency == 1 else None
        if run is not None and cell not in self.holding:
            arm, followed_s = run
            self.after.setdefault((cell, arm), []).append((mono_s - followed_s, self.slow))
        limit_s = START_S if self.starting or cell in self.holding else GAP_S * self.slow
        if followed_s is not None and not mono_s - followed_s <= limit_s:
            detail = f"{what} is {mono_s - followed_s:.3f} s after the end of the step before it"
            yield Finding(kind="clock_impossible", cell=cell, detail=detail)
        self.now_s = mono_s if before_s is None else max(before_s, mono_s)
        self.starting = False

    def _wall(self, text: str, cell: str, what: str, mono_s: float | None = None) -> Iterator[Finding]:
        wall_s = _wall_s(text)
        if wall_s is None:
            yield Finding(kind="clock_impossible", cell=cell, detail=f"{what} has the wall time {text!r}")
            return
        if self.wall_s is not None and wall_s < self.wall_s - WALL_STEP_S:
            detail = f"{what} is {self.wall_s - wall_s:.3f} s before the wall time before it"
            yield Finding(kind="clock_stepped", cell=cell, detail=detail)
        if mono_s is not None:
            offset_s = wall_s - mono_s
            if self.offset_s is not None and abs(offset_s - self.offset_s) > WALL_STEP_S:
                detail = f"at {what} the wall clock moved {offset_s - self.offset_s:.3f} s against the other"
                yield Finding(kind="clock_stepped", cell=cell, detail=detail)
            self.offset_s = offset_s
        self.wall_s = wall_s

    def unlikely(self) -> Iterator[Finding]:
        """What follows a run at once: if it never does, the arm's latencies are not those that passed."""
        for (cell, arm), gaps in self.after.items():
            least_s = never_quiet_s(gaps, self.concurrency)
            if least_s is not None:
                detail = f"the step after a run never comes within {least_s * 1e3:.3f} ms of its end"
                yield Finding(kind="overhead_unlikely", cell=cell, arm=arm, detail=detail)


def _wall_s(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 time with an offset; None of anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp()
