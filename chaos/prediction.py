"""What follows from the schedules of a cell before any run: every attempt, and the counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaos.faults import Ending, Fault, Hop, Struck
from chaos.schedule import Schedule
from chaos.when import invalid


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCall:
    """A call that a request makes if nothing fails before: the `index`-th, from 0, on its hop."""

    hop: Hop
    index: int
    has_effect: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedAttempt:
    """One attempt as the schedules have it: its place, its number `n` on its hop, its fault and what comes of that."""

    hop: Hop
    call_index: int
    attempt: int
    n: int
    fault: Fault | None
    ending: Ending | None

    @property
    def is_error(self) -> bool:
        """Whether its fault makes it fail."""
        return self.ending is not None and self.ending.is_error

    @property
    def tool_runs(self) -> bool:
        """Whether it gets as far as the tool."""
        return self.ending is None or self.ending.tool_runs


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedRequest:
    """The attempts of one request in order, and whether it fails. `stratum` names its faults, "-" for none.

    That is their letters in order, such as "T,F"; where several hops have schedules each with its hop, as in
    "model.L,tool.F".
    """

    attempts: tuple[PredictedAttempt, ...]
    failed: bool
    stratum: str

    @property
    def retries(self) -> int:
        """Attempts after the first of each call."""
        return sum(attempt.attempt > 0 for attempt in self.attempts)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults that the request meets, in order."""
        return tuple(attempt.fault for attempt in self.attempts if attempt.fault is not None)

    @property
    def fault_ids(self) -> tuple[str, ...]:
        """The ids of its faults, in order."""
        return tuple(fault.id for fault in self.faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The attempts and counts that a run must show if it is as scheduled.

    `next_n` is for each hop with a schedule the number of the attempt that would come next. `effects` are the rows that
    calls with side effects write: with idempotency keys one for each call whose tool ran, without them one for each
    attempt in which it ran. `duplicates` are the rows beyond a call's first. `phantoms` are calls whose effect happened
    in a request that the user saw fail.
    """

    requests: tuple[PredictedRequest, ...]
    next_n: dict[Hop, int]
    effects: int
    duplicates: int
    phantoms: int

    @property
    def errors(self) -> int:
        """Requests that end in an error."""
        return sum(request.failed for request in self.requests)

    @property
    def successes(self) -> int:
        """Requests that end with an answer."""
        return len(self.requests) - self.errors

    @property
    def attempts(self) -> int:
        """Attempts on the hops that have schedules, retries included."""
        return sum(len(request.attempts) for request in self.requests)

    @property
    def retries_of_successes(self) -> int:
        """Retries within the requests that succeed."""
        return sum(request.retries for request in self.requests if not request.failed)

    @property
    def retries_mean_success(self) -> float:
        """`retries_of_successes` for each success; 0 where nothing succeeds."""
        return self.retries_of_successes / self.successes if self.successes else 0.0

    @property
    def fault_ids(self) -> tuple[str, ...]:
        """Every planned fault, in order."""
        return tuple(fault_id for request in self.requests for fault_id in request.fault_ids)

    def stratum(self, request: int) -> str:
        """The stratum of the request at that position."""
        return self.requests[request].stratum


def predict(
    schedules: Sequence[Schedule],
    requests: Sequence[Sequence[PlannedCall]],
    *,
    retries: int,
    timeouts_s: Mapping[Hop, float],
    in_process: bool = False,
    starts: Mapping[Hop, int] | None = None,
    idempotency: bool = True,
) -> Prediction:
    """The attempts of requests that make these calls one after another under the schedules, one a hop at most.

    `requests[i]` are the calls of request i in their order; those on a hop without a schedule meet nothing. A call is
    tried at most `retries` + 1 times, but the client's own of the agent once, and a request ends at the first call that
    exhausts them, so that what happens on one hop decides how often the others are reached. A request whose answer is
    lost on its way to the client makes its calls all the same. `timeouts_s` bounds an attempt on each hop; `in_process`
    says that the tools run in the caller's process. `starts` is the number of the first attempt on a hop (default: the
    schedule's own). Raises INVALID_ARGUMENT on arguments that do not fit.
    """
    if retries < 0:
        raise invalid("retries >= 0", str(retries))
    by_hop = {schedule.hop: schedule for schedule in schedules}
    if len(by_hop) < len(schedules):
        raise invalid("one schedule for a hop", ", ".join(schedule.hop for schedule in schedules))
    walk = _Walk(by_hop, retries, timeouts_s, in_process, {**_starts(schedules), **(starts or {})})
    predicted = []
    effects = duplicates = phantoms = 0
    for index, calls in enumerate(requests):
        request, ran = walk.request(index, calls)
        predicted.append(request)
        for call, runs in ran:
            if call.has_effect and runs:
                rows = 1 if idempotency else runs
                effects += rows
                duplicates += rows - 1
                phantoms += request.failed
    return Prediction(
        requests=tuple(predicted),
        next_n=walk.next_n,
        effects=effects,
        duplicates=duplicates,
        phantoms=phantoms,
    )


def _starts(schedules: Sequence[Schedule]) -> dict[Hop, int]:
    return {schedule.hop: schedule.start for schedule in schedules}


class _Walk:
    """The attempts of one request after the other, each hop's numbered for itself."""

    def __init__(
        self,
        schedules: Mapping[Hop, Schedule],
        retries: int,
        timeouts_s: Mapping[Hop, float],
        in_process: bool,
        next_n: dict[Hop, int],
    ) -> None:
        self.next_n = next_n
        self._schedules = schedules
        self._retries = retries
        self._struck = {
            hop: Struck(timeout_s=timeouts_s[hop], in_process=in_process and hop != "agent")
            for hop in schedules
        }

    def request(
        self, request_index: int, calls: Sequence[PlannedCall]
    ) -> tuple[PredictedRequest, list[tuple[PlannedCall, int]]]:
        """The request, and how often each call that it reaches is run."""
        attempts: list[PredictedAttempt] = []
        ran: list[tuple[PlannedCall, int]] = []
        failed = False
        for call in calls:
            if call.hop not in self._schedules:
                ran.append((call, 1))
                continue
            made = list(self._call(request_index, call))
            attempts += made
            ran.append((call, sum(attempt.tool_runs for attempt in made)))
            failed |= made[-1].is_error
            if made[-1].is_error and not (call.hop == "agent" and made[-1].tool_runs):
                break
        request = PredictedRequest(
            attempts=tuple(attempts), failed=failed, stratum=",".join(self._letters(attempts)) or "-"
        )
        return request, ran

    def _call(self, request_index: int, call: PlannedCall) -> Iterator[PredictedAttempt]:
        hop = call.hop
        for attempt in range(1 if hop == "agent" else self._retries + 1):
            n = self.next_n[hop]
            self.next_n[hop] += 1
            fault = self._schedules[hop].fault_at(
                n=n, request_index=request_index, call_index=call.index, attempt=attempt
            )
            made = PredictedAttempt(
                hop=hop,
                call_index=call.index,
                attempt=attempt,
                n=n,
                fault=fault,
                ending=None if fault is None else fault.kind.ending(self._struck[hop]),
            )
            yield made
            if not made.is_error:
                return

    def _letters(self, attempts: Sequence[PredictedAttempt]) -> Iterator[str]:
        for attempt in attempts:
            if attempt.fault is not None:
                letter = attempt.fault.kind.letter
                yield letter if len(self._schedules) == 1 else f"{attempt.hop}.{letter}"
