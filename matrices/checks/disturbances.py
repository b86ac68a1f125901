"""Faults that strike hosts for everybody: who ran into which, and whether that explains what went wrong. Pure.

What the plan knows is the struck attempt. Whoever else comes by meets a host that is gone, and how often is a matter of
time: such a run is held to what must be so whenever it came, and each of its failures to a fault with a name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from chaos.faults import FaultKind, Hop
from matrices.arms.arm import Arm
from matrices.checks import answers, user_turns
from matrices.checks.collateral import HURT_CODES
from matrices.checks.finding import Finding, FindingKind, Say, differs
from matrices.checks.tolerances import CLOCK_S, GAP_S, SETTLE_S
from matrices.evidence import events as ev
from matrices.evidence.history import CellState
from matrices.evidence.ledger import EffectCounts
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation, ExpectedRun
from matrices.spec.suites import Task
from treni.v1 import agent_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The time in which one strike may hurt whoever calls the services `roles`, by the harness's monotonic clock.

    From `start_s`, when it began, over `healed_s` and `back_s` to `end_s`, by when connections must have recovered.
    All of it within one `epoch` of the harness. One that nobody saw end has no `healed`.
    """

    fault_id: str
    run_id: str
    roles: frozenset[str]
    epoch: int
    start_s: float
    healed_s: float
    back_s: float
    end_s: float
    struck: ev.Struck
    healed: ev.Healed | None

    def hits(self, arm: Arm) -> frozenset[Hop]:
        """The calls of the arm's runs that it may hurt: those to its roles, and all that a struck agent makes."""
        if arm.agent in self.roles:
            return frozenset({"agent", "model", "tool"})
        ends: tuple[tuple[Hop, str], ...] = (("model", arm.model), ("tool", arm.tools))
        return frozenset(hop for hop, role in ends if role in self.roles)

    def overlaps(self, start_s: float, end_s: float) -> bool:
        """Whether it lasts at any time between these two."""
        return start_s <= self.end_s and self.start_s <= end_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """One run in flight from `start_s` on, by the harness's monotonic clock; its attempts lie within that."""

    run: Run
    epoch: int
    start_s: float

    @property
    def end_s(self) -> float:
        """The moment at which its client had its end."""
        return self.start_s + self.run.outcome.latency_s

    def span_s(self, attempt: agent_pb2.Attempt) -> tuple[float, float]:
        """The earliest start and the latest end of an attempt: on which way the client's time went nobody knows."""
        start_s = self.start_s + attempt.start_s
        total_s = self.run.outcome.latency_s if self.run.record is None else self.run.record.total_s
        room_s = max(0.0, self.run.outcome.latency_s - total_s)
        return start_s - CLOCK_S, start_s + attempt.duration_s + room_s + CLOCK_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbances:
    """The strikes of a cell, and the runs that they may have hurt, by the run's id."""

    windows: tuple[Window, ...]
    flights: Mapping[str, Flight]

    def met_by(self, flight: Flight, arm: Arm) -> tuple[Window, ...]:
        """The windows in which the run was in flight on a way that they hurt."""
        return tuple(
            window
            for window in self.windows
            if window.epoch == flight.epoch
            and window.hits(arm)
            and window.overlaps(flight.start_s, flight.end_s)
        )


def disturbances_in(state: CellState, runs: Iterable[Run], expected: Expectation) -> Disturbances:
    """What the history tells of the cell's strikes, and when its completed runs were in flight."""
    kinds = kinds_of(expected)
    healed = {(event.fault_id, event.run_id): event for event in state.healed}
    windows = []
    for struck in state.struck:
        whole, kind = healed.get((struck.fault_id, struck.run_id)), kinds.get(struck.fault_id)
        lasting_s = 0.0 if kind is None else kind.outage_s
        healed_s = struck.struck_s + lasting_s if whole is None else whole.healed_s
        back_s = healed_s if whole is None else whole.back_s
        error_s = struck.error_s if whole is None else max(struck.error_s, whole.error_s)
        windows.append(
            Window(
                fault_id=struck.fault_id,
                run_id=struck.run_id,
                roles=frozenset(struck.roles),
                epoch=epoch_of(struck.run_id),
                start_s=struck.struck_s - error_s,
                healed_s=healed_s,
                back_s=back_s,
                # What was not acknowledged during an outage is sent again within as long a time after it.
                end_s=back_s + lasting_s + SETTLE_S + error_s,
                struck=struck,
                healed=whole,
            )
        )
    flights = {}
    for run in runs:
        invoke = state.completed[run.pair.pair].invokes.get(run.arm)
        if invoke is not None:
            run_id = run.outcome.run_id
            flights[run_id] = Flight(run=run, epoch=epoch_of(run_id), start_s=invoke.mono_s)
    return Disturbances(windows=tuple(windows), flights=flights)


def kinds_of(expected: Expectation) -> dict[str, FaultKind]:
    """The kind of each planned fault, by the fault's id."""
    return {
        fault.id: fault.kind for pair in expected.pairs for run in pair.runs.values() for fault in run.faults
    }


def _ends(expected: Expectation) -> dict[tuple[str, str], str]:
    """The role behind the hop of each planned fault, by the fault's id and the arm that meets it."""
    ends = {}
    for pair in expected.pairs:
        for name, run in pair.runs.items():
            arm = expected.comparison.arm(name)
            for fault in run.faults:
                ends[fault.id, name] = {"tool": arm.tools, "model": arm.model}.get(fault.hop, arm.agent)
    return ends


def _arm_of(run_id: str) -> str:
    """The arm that a run's id names; "" of what is no run's id."""
    return [*run_id.split("/"), "", "", ""][2]


def epoch_of(run_id: str) -> int:
    """The start of the harness that the run was made under; -1 of what is no run's id."""
    last = run_id.rpartition("/")[2]
    return int(last) if last.isdecimal() else -1


def touched(found: Disturbances, expected: Expectation) -> frozenset[str]:
    """The ids of the runs that a strike may have hurt, those that were struck among them."""
    return frozenset(
        run_id
        for run_id, flight in found.flights.items()
        if found.met_by(flight, expected.comparison.arm(flight.run.arm))
    )


def forestalled(found: Disturbances, expected: Expectation) -> frozenset[str]:
    """The ids of the runs that another run's strike may have kept from where a fault was planned for them."""
    return frozenset(
        run_id
        for run_id, flight in found.flights.items()
        if not flight.run.ok
        and any(
            window.run_id != run_id
            for window in found.met_by(flight, expected.comparison.arm(flight.run.arm))
        )
    )


def of_strikes(state: CellState, expected: Expectation, found: Disturbances) -> Iterator[Finding]:
    """Findings about the strikes themselves: each delivered fault struck once, lasted its time, and was healed."""
    kinds = kinds_of(expected)
    delivered = Counter(
        (row.fault_id, row.run_id) for rows in state.deliveries.values() for row in rows if row.how == "host"
    )
    struck = Counter((event.fault_id, event.run_id) for event in state.struck)
    whole = Counter((event.fault_id, event.run_id) for event in state.healed)
    last = max((start.epoch for start in state.starts), default=0)

    def say(kind: FindingKind, detail: str) -> Finding:
        return Finding(kind=kind, cell=state.cell, detail=detail)

    ended = state.ended is not None
    for key in sorted({*delivered, *struck, *whole}):
        fault_id, run_id = key
        # A harness that was killed heard no more of what struck under it.
        heard = epoch_of(run_id) == last and ended
        if ended and not delivered[key]:
            yield say("fault_not_planned", f"{fault_id} struck for {run_id}, and no host logged its delivery")
        if struck[key] > 1 or whole[key] > 1 or (heard and struck[key] < 1):
            yield say("fault_delivered_otherwise", f"{fault_id} struck {struck[key]} times for {run_id}")
        if whole[key] > struck[key] or (heard and whole[key] < 1):
            yield say("fault_not_healed", f"{fault_id}, put on {run_id}: healed {whole[key]} times")
    ends = _ends(expected)
    for window in found.windows:
        kind = kinds.get(window.fault_id)
        end = ends.get((window.fault_id, _arm_of(window.run_id)))
        if end is not None and end not in window.roles:
            detail = differs("service struck", end, ", ".join(sorted(window.roles)) or "none")
            yield say("fault_delivered_otherwise", f"{window.fault_id}: {detail}")
        if kind is not None and window.healed is not None:
            yield from _of_strike(window, window.healed, kind, expected, say)


def _of_strike(
    window: Window, healed: ev.Healed, kind: FaultKind, expected: Expectation, say: Say
) -> Iterator[Finding]:
    what, most_s = window.fault_id, kind.outage_s + GAP_S
    if not kind.outage_s - CLOCK_S <= healed.lasted_s <= most_s:
        yield say("fault_not_healed", f"{what}: {differs('seconds', kind.outage_s, healed.lasted_s)}")
    if abs(healed.healed_s - window.struck.struck_s - healed.lasted_s) > 2 * CLOCK_S + (
        window.struck.error_s + healed.error_s
    ):
        yield say("clock_impossible", f"{what}: the host counts {healed.lasted_s:.3f} s, the harness others")
    if not healed.back_s >= healed.healed_s - CLOCK_S:
        yield say("clock_impossible", f"{what}: its services were back before it was healed")
    if not kind.on_link and healed.packets:
        yield say("fault_delivered_otherwise", f"{what}: a {kind.name} that met {healed.packets} packets")
    if kind.on_link and not healed.packets > 0:
        yield say("fault_not_observed", f"{what}: not one packet met it on the link")


def of_run(
    flight: Flight, expected: ExpectedRun, task: Task, of_cell: Expectation, found: Disturbances, say: Say
) -> Iterator[Finding]:
    """Findings about a run that a strike may have hurt: what must be so however often it had to try."""
    run, arm = flight.run, of_cell.comparison.arm(flight.run.arm)
    met = found.met_by(flight, arm)
    if run.ok:
        yield from answers.of_answer(run, task, expected, of_cell, say=say)
        if not expected.ok:
            yield say("error_absent", "the schedule predicts an error")
    else:
        yield from answers.of_shape(run, say)
        yield from user_turns.of_answers(run, task, must_pass=of_cell.must_pass, say=say)
    calls: dict[tuple[str, int], list[agent_pb2.Attempt]] = defaultdict(list)
    own = {fault.id for fault in expected.faults}
    for got in run.attempts:
        calls[got.hop, got.call_index].append(got)
        where = f"{got.hop} call {got.call_index} attempt {got.attempt}"
        if got.fault_id not in own | {""}:
            yield say("attempt_wrong", f"{where}: {differs('fault', 'its own or none', got.fault_id)}")
        key = f"{run.outcome.run_id}/{got.call_index}" if got.hop == "tool" and of_cell.idempotency else ""
        if got.idempotency_key != key:
            yield say("attempt_wrong", f"{where}: {differs('idempotency key', key, got.idempotency_key)}")
        if got.outcome != "ok" and got.fault_id == "" and not _is_refusal(got, expected):
            start_s, end_s = flight.span_s(got)
            if got.code not in HURT_CODES or not _hit(met, arm, got.hop, start_s, end_s):
                ended = f"{got.outcome} {got.code} {got.kind} {got.detail}".rstrip()
                yield say("attempt_unexplained", f"{where}: {ended}, and no fault stood on its way")
    most = of_cell.policy.retries + 1
    for (hop, index), made in calls.items():
        if [one.attempt for one in made] != list(range(len(made))) or len(made) > most:
            yield say(
                "attempt_wrong", f"{hop} call {index}: {len(made)} attempts, of at most {most} in order"
            )
    yield from _of_error(flight, arm, met, own, say)


def _of_error(flight: Flight, arm: Arm, met: Iterable[Window], own: set[str], say: Say) -> Iterator[Finding]:
    error = flight.run.outcome.error
    if flight.run.ok or error is None or error.fault_id in own:
        return
    if error.code in HURT_CODES and _hit(met, arm, error.hop or "agent", flight.start_s, flight.end_s):
        return
    yield say("error_unexplained", f"no fault stood on its way: {error.code} {error.kind} at {error.hop}")


def _is_refusal(got: agent_pb2.Attempt, expected: ExpectedRun) -> bool:
    """Whether the tool refused the call by itself, as the task has it."""
    return any(
        want.kinds is None
        and (want.hop, want.call_index) == (got.hop, got.call_index)
        and got.code == want.code
        for want in expected.attempts
    )


def _hit(met: Iterable[Window], arm: Arm, hop: str, start_s: float, end_s: float) -> bool:
    return any(hop in window.hits(arm) and window.overlaps(start_s, end_s) for window in met)


def of_effects(
    rows: Iterable[ev.EffectRow], runs: Mapping[int, Run], expected: Expectation, arm: str
) -> Iterator[Finding]:
    """Findings about the rows of runs that a strike may have hurt, `runs`.

    An answered one has a row for each call, and with keys no more; one that failed has at most that, and none where the
    error says that nothing happened.
    """
    left: dict[str, list[ev.EffectRow]] = defaultdict(list)
    for row in rows:
        left[row.run_id].append(row)
    for pair in expected.pairs:
        run = runs.get(pair.pair)
        if run is None:
            continue

        def found(kind: FindingKind, detail: str, pair_index: int = pair.pair) -> Finding:
            return Finding(kind=kind, cell=expected.cell, arm=arm, pair=pair_index, detail=detail)

        owed = _owed(pair.task)
        counted: Counter[int] = Counter()
        for row in left[run.outcome.run_id]:
            index = _call_of(row, owed, counted)
            counted[index] += 1
            key = f"{row.run_id}/{index}" if expected.idempotency else ""
            said = f"{row.account} {row.amount} ({row.idempotency_key or 'no key'}, attempt {row.attempt})"
            if index < 0:
                yield found(
                    "effect_stranger" if run.ok else "effect_phantom", f"{said}: no call of the run's"
                )
            elif (row.idempotency_key, row.task_id) != (key, pair.task.id):
                yield found("effect_altered", differs("row", f"{key}, task {pair.task.id}", said))
            elif counted[index] > 1 and expected.idempotency:
                yield found("effect_duplicate", f"{said}: its call has its row already")
            elif run.outcome.outcome == "fail":
                yield found("effect_phantom", f"{said}: the run says that nothing happened")
        for index in owed if run.ok else ():
            if not counted[index]:
                yield found("effect_lost", f"call {index} is not in the ledger")


def count_effects(
    rows: Iterable[ev.EffectRow], runs: Mapping[int, Run], expected: Expectation
) -> EffectCounts:
    """The account of the rows of runs that a strike may have hurt, `runs`, as that of all others."""
    counted: dict[str, Counter[int]] = defaultdict(Counter)
    tasks = {run.outcome.run_id: (run, expected.pairs[pair].task) for pair, run in runs.items()}
    recorded = stranger = 0
    for row in rows:
        if row.run_id not in tasks:
            continue
        recorded += 1
        of_run = counted[row.run_id]
        index = _call_of(row, _owed(tasks[row.run_id][1]), of_run)
        stranger += index < 0
        if index >= 0:
            of_run[index] += 1
    lost = sum(
        not counted[run_id][index] for run_id, (run, task) in tasks.items() if run.ok for index in _owed(task)
    )
    return EffectCounts(
        recorded=recorded,
        lost=lost,
        duplicate=sum(count - 1 for of_run in counted.values() for count in of_run.values() if count > 1),
        phantom=sum(len(of_run) for run_id, of_run in counted.items() if not tasks[run_id][0].ok),
        stranger=stranger,
        superseded=0,
    )


def _owed(task: Task) -> dict[int, tuple[str, int]]:
    """The account and amount of each call of the task that leaves a row, by the call's index."""
    return {
        index: (call.arguments["account"], call.arguments["amount"])
        for index, call in enumerate(task.calls)
        if call.name == "ledger_append" and not call.refused
    }


def _call_of(row: ev.EffectRow, owed: Mapping[int, tuple[str, int]], counted: Mapping[int, int]) -> int:
    """The call that left the row: by its key where it has one, else the first of its kind without one; -1 for none."""
    alike = [index for index, entry in owed.items() if entry == (row.account, row.amount)]
    named = row.idempotency_key.rpartition("/")[2]
    if named.isdecimal() and int(named) in alike:
        return int(named)
    return next((index for index in alike if not counted.get(index)), alike[0] if alike else -1)
