"""What the harness tells Prometheus while a campaign runs: its history as counts, and what may be said of it by now."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from matrices.evidence import events as ev
from matrices.evidence.campaign import Campaign
from matrices.report.figures import CellFigures, Figures
from matrices.running.live_figures import LiveFigures
from matrices.statistics.estimates import Estimate
from matrices.statistics.verdicts import Verdict
from treni.metrics import Page, bounded_kind

PACE_S = 0.05
"""How often the harness looks how late it is."""


class HarnessMetrics:
    """The pairs of a campaign and what they came to; warm-ups, which the history does not have, are left out."""

    def __init__(self, page: Page) -> None:
        arm, profile = ("arm", "profile"), "profile"
        self._requests = page.counter(
            "harness_requests",
            "Requests that ended, by outcome: ok, fail (did not happen), unknown.",
            *arm,
            "outcome",
        )
        self._errors = page.counter(
            "harness_request_errors", "Those that ended with an error, by its kind.", *arm, "code", "kind"
        )
        self._wrong = page.counter("harness_wrong_answers", "Answers that were not right.", *arm)
        self._seconds = page.histogram(
            "harness_request_seconds", "The client's time to the end, answer or error.", *arm
        )
        self._first = page.histogram(
            "harness_first_text_seconds", "The client's time to the first text (TTFT).", *arm
        )
        self._in_flight = page.gauge("harness_in_flight", "Requests in progress.", *arm)
        self._planned = page.counter(
            "harness_faults_planned", "Faults that the schedule put on requests.", *arm
        )
        self._observed = page.counter(
            "harness_faults_observed", "Faults that the arms met, by their records.", *arm
        )
        self._delivered = page.gauge(
            "harness_faults_delivered", "Faults in an arm's delivery log at the end of its cell.", *arm
        )
        self._retries = page.counter("harness_retries", "Attempts after the first of a call.", *arm, "hop")
        self._effects = page.gauge(
            "harness_effects",
            "Side effects at the end of a cell: recorded, lost, duplicate, phantom, stranger.",
            *arm,
            "kind",
        )
        self._pairs_planned = page.gauge("harness_pairs_planned", "Pairs of the plan.", profile)
        self._pairs = page.gauge("harness_pairs_complete", "Pairs that are complete.", profile)
        self._active = page.gauge("harness_cell_active", "Whether the cell runs now.", profile)
        self._outages = page.histogram(
            "harness_outage_seconds", "How long a role did not answer.", *arm, "role"
        )
        self._recovery = page.histogram(
            "harness_recovery_seconds",
            "From the end of a fault on a host until its services were back.",
            profile,
        )
        self._broken = page.counter("harness_cells_broken", "Cells that lost a service.", profile)
        self._gap = page.histogram(
            "harness_pair_gap_seconds", "Between the two requests of a pair, which are to be back to back."
        )
        self._pacing = page.histogram(
            "harness_pacing_error_seconds", "How late the harness came to a moment that it had waited for."
        )
        self._ratio = page.gauge(
            "harness_latency_ratio",
            "Mean latency of the compared arm over the baseline's by now: value, and low and high of its interval.",
            profile,
            "bound",
        )
        self._difference = page.gauge(
            "harness_latency_difference_seconds",
            "The mean paired difference by now, as the ratio.",
            profile,
            "bound",
        )
        self._floor = page.gauge("harness_floor_seconds", "The noise floor that the A/A cell gives.")
        self._verdict = page.gauge(
            "harness_verdict", "Which verdict on latency the pairs support by now (1).", profile, "verdict"
        )
        self._claim_safe = page.gauge("harness_claim_safe", "Whether every gate passes by now.", profile)
        self._findings = page.gauge(
            "harness_findings", "What the checker holds against a cell that is over.", profile
        )
        self._judging = page.histogram("harness_judging_seconds", "What judging took, between two blocks.")
        self._live: LiveFigures | None = None
        self._complete: Counter[str] = Counter()
        self._ended_s: dict[tuple[str, int], float] = {}

    def begin(self, campaign: Campaign, events: Iterable[ev.Event] = ()) -> None:
        """Follows that campaign from now on, whose history has these events already."""
        self._live = LiveFigures(campaign)
        for cell in campaign.cells:
            self._pairs_planned.labels(cell.name).set(len(cell.pairs))
            self._recovery.labels(
                cell.name
            )  # there before its first: what appears with a value is no increase
        for event in events:
            self.fold(event, past=True)

    async def pace(self) -> None:
        """Measures how late this process is, until it is cancelled."""
        while True:
            before_s = time.perf_counter()
            await asyncio.sleep(PACE_S)
            self._pacing.observe(max(0.0, time.perf_counter() - before_s - PACE_S))

    def fold(self, event: ev.Event, *, past: bool = False) -> None:
        """Counts an event of the history, and judges all that there is after a block, unless that is in the `past`."""
        if self._live is not None:
            self._live.add(event)
        match event:
            case ev.CellStarted():
                self._active.labels(event.cell).set(1)
            case ev.CellEnded():
                self._active.labels(event.cell).set(0)
                self._broken.labels(event.cell).inc(int(event.status == "broken"))
            case ev.Block(phase="end") if not past and self._live is not None:
                self._judge(self._live)
            case ev.PairStarted():
                for arm, faults in event.planned_faults.items():
                    self._planned.labels(arm, event.cell).inc(len(faults))
            case ev.Invoke() if not past:
                self._in_flight.labels(event.arm, event.cell).inc()
                ended_s = self._ended_s.pop((event.cell, event.pair), None)
                if ended_s is not None:
                    self._gap.observe(max(0.0, event.mono_s - ended_s))
            case ev.Outcome():
                self._outcome(event)
                self._in_flight.labels(event.arm, event.cell).inc(0 if past else -1)
                # The second arm's takes the place of the first's, and is taken away with its pair.
                self._ended_s[event.cell, event.pair] = time.monotonic()
            case ev.PairCompleted():
                self._ended_s.pop((event.cell, event.pair), None)
                self._complete[event.cell] += 1
                self._pairs.labels(event.cell).set(self._complete[event.cell])
            case ev.Discard():
                self._complete[event.cell] = 0
                self._pairs.labels(event.cell).set(0)
            case ev.Deliveries():
                self._delivered.labels(event.arm, event.cell).set(len(event.faults))
            case ev.Healed():
                self._recovery.labels(event.cell).observe(max(0.0, event.back_s - event.healed_s))
            case ev.Outage():
                self._outages.labels(event.arm, event.cell, event.role).observe(event.end_s - event.start_s)
            case ev.Sealed() if not past and self._live is not None:
                self._judge(self._live)
            case _:
                pass

    def _outcome(self, event: ev.Outcome) -> None:
        labels = (event.arm, event.cell)
        self._requests.labels(*labels, event.outcome).inc()
        self._seconds.labels(*labels).observe(event.latency_s)
        if event.ttft_s is not None:
            self._first.labels(*labels).observe(event.ttft_s)
        self._wrong.labels(*labels).inc(int(event.correct is False))
        met = set()
        if event.error is not None:
            self._errors.labels(*labels, event.error.code, bounded_kind(event.error.kind)).inc()
            met.add(event.error.fault_id)
        attempts: list[Mapping[str, Any]] = [] if event.record is None else event.record["attempts"]
        for attempt in attempts:
            met.add(attempt["fault_id"])
            self._retries.labels(*labels, attempt["hop"]).inc(int(attempt["attempt"] > 0))
        self._observed.labels(*labels).inc(len(met - {""}))

    def _judge(self, live: LiveFigures) -> None:
        with self._judging.time():
            found = live.figures()
        if found is not None:
            self._say(found)

    def _say(self, found: Figures) -> None:
        if found.floor is not None:
            self._floor.set(found.floor.bound_s)
        for cell in found.cells:
            if cell.pairs:
                self._say_cell(cell)

    def _say_cell(self, cell: CellFigures) -> None:
        name, latency = cell.config.name, cell.comparison
        for gauge, estimate in ((self._ratio, latency.ratio), (self._difference, latency.delta)):
            for bound, value in _bounds(estimate):
                gauge.labels(name, bound).set(value)
        for verdict in Verdict:
            self._verdict.labels(name, verdict.name.lower()).set(int(verdict is latency.verdict))
        self._claim_safe.labels(name).set(int(cell.claim_safe))
        if cell.complete:
            self._findings.labels(name).set(len(cell.findings))
            for arm in cell.arms:
                for kind in ("recorded", "lost", "duplicate", "phantom", "stranger"):
                    self._effects.labels(arm.arm, name, kind).set(getattr(arm.effects, kind))


def _bounds(estimate: Estimate | None) -> Iterable[tuple[str, float]]:
    if estimate is None:
        return ()
    return (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
