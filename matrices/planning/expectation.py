"""What the plan and the schedule say, before the run, that each run of a cell will do. The checker compares.

`trace` derives the runs, `plan` puts them together. Everything that depends on a run's id (its
idempotency keys) is left to whoever knows the id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from chaos.faults import Ending, FaultKind, Hop, Site
from controller.policy import Policy
from matrices.arms.arm import Comparison
from matrices.planning.steps import Step
from matrices.spec.networks import NetworkProfile
from matrices.spec.suites import ExpectedCall, Task
from treni.balance import chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class Counter:
    """The count of attempts on a hop of an arm whose faults a schedule plans, under the `key` that starts note it by.

    `site` is where those faults strike, `first` the number of the first attempt.
    """

    key: str
    arm: str
    hop: Hop
    site: Site
    first: int


Place: TypeAlias = Literal["none", "hop", "host", "tool", "agent"]


def site_of(counters: Collection[Counter]) -> Place:
    """Where a cell's faults strike: "hop" if any does where only one arm has a hop, "agent" if only both arms' does."""
    sites = {"agent" if counter.hop == "agent" else counter.site for counter in counters}
    places: tuple[Place, ...] = ("hop", "host", "tool", "agent")
    return next((place for place in places if place in sites), "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFault:
    """A fault that the run is bound to meet, as its delivery is logged; `how` names the layer that hands it out."""

    id: str
    kind: FaultKind
    site: Site
    hop: Hop
    how: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedAttempt:
    """One attempt of a run: what it is, how it ends, and what plan and seed make it wait.

    `name` is the tool's ("" at the model). `kinds` are the error kinds it may end with, None for a tool's own refusal,
    whose kind only the tool knows; {""} where it works. `backoff_s` is waited before it. `ending` is what comes of it
    because of its fault, None without one.
    """

    hop: Hop
    call_index: int
    attempt: int
    name: str
    fault: PlannedFault | None
    outcome: str
    code: str
    kinds: frozenset[str] | None
    backoff_s: float
    ending: Ending | None

    @property
    def held_s(self) -> float:
        """How many seconds its fault makes it last at least; 0 without one."""
        return 0.0 if self.ending is None else self.ending.least_s

    @property
    def tool_runs(self) -> bool:
        """Whether it gets as far as the tool."""
        return self.ending is None or self.ending.tool_runs

    @property
    def where(self) -> str:
        """The attempt in words."""
        return f"{self.hop} call {self.call_index} attempt {self.attempt}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedEffect:
    """One row that the run leaves in its arm's ledger; `call_index` names the call on the tool hop."""

    call_index: int
    attempt: int
    account: str
    amount: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedError:
    """How a run without an answer ends."""

    code: str
    kind: str
    definite: bool
    hop: str
    fault_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedRun:
    """The run of one arm with one pair, as planned.

    `attempts` are in order, over both hops; `calls` are those whose result or refusal the model reads, None where
    nobody knows which they should be; `turns` counts completed model calls, None where nobody sees them; `answers` are
    the user turns that are answered, each with the number of attempts by then; `effects` is a multiset; `error` is None
    for a run that ends with the answer to the last. `open`: which calls it makes is not known before, so that all this
    is what follows if it calls as its task tells, or not at all.
    `hurried`: the planned waits use up the run's own time, so that its deadline may cut an attempt short and be what
    it ends with. `lost`: the process that would tell of the run dies with it, or its answer never arrives, so that
    there is no record of it. `entry` is the client's call of the agent where a fault strikes it.
    """

    attempts: tuple[ExpectedAttempt, ...]
    calls: tuple[ExpectedCall, ...] | None
    turns: int | None
    answers: tuple[int, ...]
    effects: tuple[ExpectedEffect, ...]
    error: ExpectedError | None
    hurried: bool
    lost: bool
    entry: ExpectedAttempt | None = None
    open: bool = False

    @property
    def struck(self) -> tuple[ExpectedAttempt, ...]:
        """The attempts that a fault strikes, in order, the client's own among them."""
        every = self.attempts if self.entry is None else (self.entry, *self.attempts)
        return tuple(attempt for attempt in every if attempt.fault is not None)

    @property
    def ok(self) -> bool:
        """Whether it ends with an answer."""
        return self.error is None

    @property
    def faults(self) -> tuple[PlannedFault, ...]:
        """The faults that it reaches, in order."""
        return tuple(attempt.fault for attempt in self.struck if attempt.fault is not None)

    @property
    def retries(self) -> int:
        """Attempts after the first of their call, over both hops."""
        return sum(attempt.attempt > 0 for attempt in self.attempts)

    @property
    def waits_s(self) -> float:
        """Seconds that it waits because plan and seed say so: timeouts of stalls, fixed delays, and backoffs."""
        return waits_of(self.entry, self.attempts)

    @property
    def duplicates(self) -> int:
        """Ledger rows beyond the first of their call."""
        return len(self.effects) - len({effect.call_index for effect in self.effects})

    @property
    def phantoms(self) -> int:
        """Calls that leave a row although the run ends without an answer."""
        return 0 if self.ok else len({effect.call_index for effect in self.effects})


def waits_of(entry: ExpectedAttempt | None, attempts: Iterable[ExpectedAttempt]) -> float:
    """Seconds that a client waits because plan and seed say so: those of the run, or what its own call is held."""
    within_s = math.fsum(attempt.backoff_s + attempt.held_s for attempt in attempts)
    if entry is None:
        return within_s
    return entry.held_s if entry.outcome != "ok" else within_s + entry.held_s


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedPair:
    """One pair of the plan. `runs` is keyed by arm."""

    pair: int
    block: int
    task: Task
    stratum: str
    segment: int
    order: tuple[str, str]
    runs: dict[str, ExpectedRun]

    @property
    def waits_s(self) -> dict[str, float]:
        """For each arm the seconds that it waits because plan and seed say so; see `ExpectedRun.waits_s`."""
        return {arm: run.waits_s for arm, run in self.runs.items()}


Following: TypeAlias = Callable[[str, Mapping[int, Sequence[Step]]], Mapping[int, ExpectedRun]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """One cell of the plan, with its pairs in order.

    `roles` names the processes that it runs with, proxies aside. `counters` are the counts of attempts by which the
    schedules act. `breaks_hosts`: the schedule has faults that break the process which hosts a tool, and keep it from
    its work for `standstill_s` at most while it lives. `disturbs`: it has faults that strike hosts for everybody, so
    that only the struck attempts are known before. `in_flight` is how many pairs run at once. `remark` is what a
    reader of the error rates must know of the schedule, "" for nothing. `networks` are those that hops are made to be
    like, `away_s` is the longest round trip that was declared between its places. `answering` has the roles that answer
    for each arm, in the order in which requests choose among them; an arm that is not there has its agent alone.
    `following` gives an arm's runs again for the calls that some of them made (by pair).
    `constrained`: the model's tool calls are held to their schemas as they are decoded. `must_pass`: every answer has
    to be right; otherwise a wrong one is a figure of its arm. `uncounted` are the tools called whose effects no ledger
    counts, `foreign` those that are none of ours and answer in any form. `slowness` is how many times longer than
    elsewhere anything may have taken in a pair, 1 for one that is not there; it is known when they have run.
    """

    cell: str
    comparison: Comparison
    roles: frozenset[str]
    pairs: tuple[ExpectedPair, ...]
    policy: Policy
    idempotency: bool
    counters: tuple[Counter, ...]
    breaks_hosts: bool
    standstill_s: float
    disturbs: bool = False
    in_flight: int = 1
    remark: str = ""
    constrained: bool = False
    must_pass: bool = True
    networks: Mapping[Hop, NetworkProfile] = field(default_factory=dict)
    away_s: float = 0.0
    answering: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    foreign: frozenset[str] = frozenset()
    following: Following | None = field(default=None, compare=False)
    slowness: Mapping[int, float] = field(default_factory=dict)

    def agent(self, arm: str, pair: int) -> str:
        """The role that answers the arm's request of a pair."""
        roles = self.answering.get(arm, (self.comparison.arm(arm).agent,))
        return roles[chosen(pair, len(roles))]

    def slow(self, pair: int) -> float:
        """How many times longer than elsewhere anything may have taken in the pair."""
        return self.slowness.get(pair, 1.0)

    @property
    def arms(self) -> tuple[str, str]:
        """The names of its arms, the baseline's first."""
        return self.comparison.names

    def network(self, arm: str, hop: str) -> NetworkProfile | None:
        """The network that the arm's hop is made to be like; None where it has no such hop, or is as it is."""
        if hop not in self.comparison.arm(arm).hops:
            return None
        return next((one for name, one in self.networks.items() if name == hop), None)

    @property
    def faulted(self) -> frozenset[str]:
        """The arms on which a schedule acts."""
        return frozenset(counter.arm for counter in self.counters)

    @property
    def unforeseen(self) -> frozenset[str]:
        """The arms of which no plan could say how many faults they meet: it does not know all of their calls."""
        return frozenset(arm for pair in self.pairs for arm, run in pair.runs.items() if run.open) & {
            counter.arm for counter in self.counters if counter.hop != "agent"
        }

    def counts(self, completed: Collection[int]) -> dict[str, int]:
        """The number of the next attempt by each counter's key, once the pairs `completed` went as planned."""
        return {
            counter.key: counter.first
            + sum(
                one.hop == counter.hop
                for pair in self.pairs
                if pair.pair in completed
                for one in pair.runs[counter.arm].attempts
            )
            for counter in self.counters
        }

    def errors(self, arm: str, *, but: Collection[int] = ()) -> int:
        """How many of the arm's runs end without an answer, those of the pairs `but` left out."""
        return sum(not pair.runs[arm].ok for pair in self.pairs if pair.pair not in but)

    def retries_of_successes(self, arm: str, *, but: Collection[int] = ()) -> int:
        """Retries summed over the arm's runs that end with an answer, those of the pairs `but` left out."""
        return sum(
            pair.runs[arm].retries for pair in self.pairs if pair.runs[arm].ok and pair.pair not in but
        )

    def duplicates(self, arm: str) -> int:
        """Ledger rows of the arm beyond the first of their call."""
        return sum(pair.runs[arm].duplicates for pair in self.pairs)

    def phantoms(self, arm: str) -> int:
        """Calls that left a row in a run of the arm that ends without an answer."""
        return sum(pair.runs[arm].phantoms for pair in self.pairs)
