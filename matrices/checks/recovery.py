"""How an arm came through the faults that struck its hosts: how soon it noticed, was well again, and what it lost.

Pure. Every time is the harness's: a strike as its host told it, a run by its invoke and its latency.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrices.arms.arm import Arm
from matrices.checks.disturbances import Disturbances, Flight, Window
from matrices.evidence import events as ev
from matrices.evidence.runs import Run
from treni.v1 import agent_pb2

GOODPUT = 0.95
"""The share of requests that have to be answered for an arm to be well again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """One strike as an arm met it.

    `detect_s` is from the strike to the first failure that anybody in the arm was told of, None where nothing failed.
    `recover_s` is from the healing to the first answer after it from which on `GOODPUT` of the requests to what was
    struck were answered, None where nothing had failed or no answer came. `back_s` is from the healing until all its
    services served again. `hurt` counts the requests with a failed attempt, `errors_during` and `errors_after` those
    that ended in an error before and after the healing.
    """

    fault_id: str
    host: str
    roles: tuple[str, ...]
    lasted_s: float | None
    back_s: float | None
    detect_s: float | None
    recover_s: float | None
    hurt: int
    errors_during: int
    errors_after: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmRecovery:
    """All strikes that an arm met. Requests that met several are counted once.

    `late_effects` are rows that were written by an attempt whose caller had given up, or for a request that failed;
    `duplicates` are rows beyond the first of a call; `tokens_lost` were decoded for requests that failed, as far as
    those have a record.
    """

    arm: str
    strikes: tuple[Recovery, ...]
    errors_during: int
    errors_after: int
    duplicates: int
    late_effects: int
    tokens_lost: int

    @property
    def detect_median_s(self) -> float | None:
        """The median over the strikes in which something failed."""
        return _median(one.detect_s for one in self.strikes)

    @property
    def recover_median_s(self) -> float | None:
        """The median over the strikes after which something was answered."""
        return _median(one.recover_s for one in self.strikes)

    @property
    def recover_max_s(self) -> float | None:
        """The longest recovery."""
        return max((one.recover_s for one in self.strikes if one.recover_s is not None), default=None)

    @property
    def back_median_s(self) -> float | None:
        """The median from the healing until all services served again."""
        return _median(one.back_s for one in self.strikes)

    @property
    def hurt(self) -> int:
        """Requests with a failed attempt, over all strikes."""
        return sum(one.hurt for one in self.strikes)


def recovery_of(
    arm: Arm, found: Disturbances, runs: Mapping[int, Run], rows: Sequence[ev.EffectRow]
) -> ArmRecovery:
    """What the strikes did to the arm, whose completed runs are `runs` and whose ledger has `rows`."""
    mine = [found.flights[run.outcome.run_id] for run in runs.values() if run.outcome.run_id in found.flights]
    windows = sorted((window for window in found.windows if window.hits(arm)), key=lambda one: one.start_s)
    touched = [flight for flight in mine if found.met_by(flight, arm)]
    strikes = []
    for index, window in enumerate(windows):
        later = [one.start_s for one in windows[index + 1 :] if one.epoch == window.epoch]
        # What another strike did is that one's, also where this one's time is not over yet.
        others = {one.run_id for one in windows} - {window.run_id}
        met = [flight for flight in mine if flight.run.outcome.run_id not in others]
        strikes.append(_recovery(arm, window, met, until_s=min([window.end_s, *later])))
    failed = {flight.run.outcome.run_id: flight for flight in touched if not flight.run.ok}
    during = {
        run_id
        for run_id, flight in failed.items()
        if any(flight.end_s <= window.healed_s for window in found.met_by(flight, arm))
    }
    of_touched = [row for row in rows if row.run_id in {flight.run.outcome.run_id for flight in touched}]
    calls = Counter((row.run_id, row.account, row.amount, row.idempotency_key) for row in of_touched)
    by_id = {flight.run.outcome.run_id: flight.run for flight in touched}
    return ArmRecovery(
        arm=arm.name,
        strikes=tuple(strikes),
        errors_during=len(during),
        errors_after=len(failed) - len(during),
        duplicates=sum(count - 1 for count in calls.values()),
        late_effects=sum(_is_late(row, by_id[row.run_id]) for row in of_touched),
        tokens_lost=sum(
            flight.run.record.usage.completion_tokens
            for flight in failed.values()
            if flight.run.record is not None
        ),
    )


def _recovery(arm: Arm, window: Window, flights: Iterable[Flight], *, until_s: float) -> Recovery:
    hops = window.hits(arm)
    hurt, told_s, errors_during, errors_after = 0, [], 0, 0
    after: list[tuple[float, bool]] = []
    for flight in flights:
        if flight.epoch != window.epoch:
            continue
        failures_s = [
            flight.span_s(one)[1]
            for one in flight.run.attempts
            if one.outcome != "ok" and one.hop in hops and _meet(window, until_s, *flight.span_s(one))
        ]
        if not flight.run.ok and _meet(window, until_s, flight.start_s, flight.end_s):
            failures_s.append(flight.end_s)
            errors_during += flight.end_s <= window.healed_s
            errors_after += flight.end_s > window.healed_s
        hurt += bool(failures_s)
        told_s += failures_s
        if window.healed_s < flight.end_s < until_s and _came_by(flight, window, arm):
            after.append((flight.end_s, flight.run.ok))
    return Recovery(
        fault_id=window.fault_id,
        host=window.struck.host,
        roles=window.struck.roles,
        lasted_s=None if window.healed is None else window.healed.lasted_s,
        back_s=None if window.healed is None else window.healed.back_s - window.healed.healed_s,
        detect_s=min(told_s) - window.struck.struck_s if told_s else None,
        recover_s=recovered_s(sorted(after), window.healed_s) if told_s else None,
        hurt=hurt,
        errors_during=errors_during,
        errors_after=errors_after,
    )


def _meet(window: Window, until_s: float, start_s: float, end_s: float) -> bool:
    """Whether something that lasted from `start_s` to `end_s` began before `until_s` and met the window."""
    return start_s < until_s and window.overlaps(start_s, end_s)


def _came_by(flight: Flight, window: Window, arm: Arm) -> bool:
    """Whether the run called what was struck, or wanted to, once that was healed."""
    hops = window.hits(arm)
    return (
        not flight.run.ok
        or "agent" in hops
        or any(one.hop in hops and flight.span_s(one)[1] > window.healed_s for one in flight.run.attempts)
    )


def recovered_s(ends: Sequence[tuple[float, bool]], healed_s: float) -> float | None:
    """The time from the healing to the first answer from which on `GOODPUT` of what ended was answered; None of none.

    `ends` has for each request, in order, when it ended and whether it was answered.
    """
    for index, (end_s, answered) in enumerate(ends):
        rest = [ok for _, ok in ends[index:]]
        if answered and sum(rest) >= GOODPUT * len(rest):
            return end_s - healed_s
    return None


def _is_late(row: ev.EffectRow, run: Run) -> bool:
    attempt = _attempt_of(row, run)
    return not run.ok if attempt is None else attempt.outcome != "ok"


def _attempt_of(row: ev.EffectRow, run: Run) -> agent_pb2.Attempt | None:
    """The attempt that wrote the row, by its key; None where the row or the run does not tell."""
    index = row.idempotency_key.rpartition("/")[2]
    if not index.isdecimal():
        return None
    return next(
        (
            one
            for one in run.attempts
            if (one.hop, one.call_index, one.attempt) == ("tool", int(index), row.attempt)
        ),
        None,
    )


def _median(values_s: Iterable[float | None]) -> float | None:
    known_s = [value_s for value_s in values_s if value_s is not None]
    return statistics.median(known_s) if known_s else None
