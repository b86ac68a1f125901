"""The run's own account: what was attempted, what it yielded, and where the time went."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType

from controller.deadline import SYSTEM_CLOCK, Clock
from treni.v1 import agent_pb2, common_pb2, inference_pb2

_TIMES = tuple(
    field.name for field in common_pb2.EngineTimings.DESCRIPTOR.fields if field.message_type is None
)


class Stopwatch:
    """Adds up the time spent inside `with` blocks, in seconds. The blocks must not overlap."""

    __slots__ = ("_now", "_started_s", "total_s")

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._started_s = 0.0
        self.total_s = 0.0

    def __enter__(self) -> None:
        self._started_s = self._now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.total_s += self._now() - self._started_s


class Recorder:
    """Builds one RunRecord. Made when the request arrives: that moment is the record's time zero.

    `arm` and `pid` (the process's id) say who made it.

    `hop_wait` and `backoff` time what is awaited. A run does one thing at a time, so their sum is the union of
    all waiting, and what is left of the total is the loop's own.
    """

    def __init__(self, *, arm: str, pid: int = 0, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.hop_wait = Stopwatch(clock)
        self.backoff = Stopwatch(clock)
        self._started_s = clock.now()
        self._record = agent_pb2.RunRecord(arm=arm, pid=pid)
        self._generations: list[inference_pb2.GenerateFinish] = []
        self._told: list[common_pb2.Usage] = []
        self._user_turns: list[_UserTurn] = []

    def elapsed_s(self) -> float:
        """Seconds since the request arrived."""
        return self.clock.now() - self._started_s

    def attempt(self, attempt: agent_pb2.Attempt) -> None:
        """Notes an attempt that has ended."""
        self._record.attempts.append(attempt)

    def generation(self, finish: inference_pb2.GenerateFinish) -> None:
        """Notes a completed model call."""
        self._generations.append(finish)

    def tool(self, use: agent_pb2.ToolUse) -> None:
        """Notes what came of a tool call that the model wrote."""
        self._record.tools.append(use)

    def told(self, *, uses: Sequence[agent_pb2.ToolUse], usage: common_pb2.Usage | None, model: str) -> None:
        """Notes what an agent that nobody sees into tells of its calls, its tokens (None: nothing) and its model."""
        self._record.tools.extend(uses)
        if usage is not None:
            self._told.append(usage)
        self._record.model = model

    def hears(self) -> None:
        """Notes that the user says something, in a run in which that happens several times."""
        self._user_turns.append(self._so_far())

    def answers(self) -> None:
        """Notes that what the user said last has its answer."""
        self._user_turns[-1].answered_s = self.elapsed_s()

    def record(self) -> agent_pb2.RunRecord:
        """The account so far, with its total taken now."""
        record = agent_pb2.RunRecord()
        record.CopyFrom(self._record)
        record.turns = len(self._generations)
        record.constrained = any(finish.constrained for finish in self._generations)
        if self._generations or self._told:
            record.usage.CopyFrom(_summed([*_usages(self._generations), *self._told]))
        record.engine.CopyFrom(_summed_timings(self._generations))
        record.awareness.CopyFrom(pooled_awareness(self._generations))
        if self._generations:
            last = self._generations[-1]
            record.backend, record.device, record.model = last.backend, last.device, last.model
        record.user_turns.extend(self._of_user_turns())
        record.backoff_s = self.backoff.total_s
        record.total_s = self.elapsed_s()
        record.loop_s = record.total_s - self.hop_wait.total_s - self.backoff.total_s
        return record

    def _of_user_turns(self) -> Iterator[agent_pb2.UserTurn]:
        for began, end in pairwise([*self._user_turns, self._so_far()]):
            spent = [*_usages(self._generations[began.turns : end.turns]), *self._told[began.told : end.told]]
            yield agent_pb2.UserTurn(
                turns=end.turns - began.turns,
                tools=end.tools - began.tools,
                usage=_summed(spent),
                answered_s=began.answered_s,
            )

    def _so_far(self) -> _UserTurn:
        return _UserTurn(turns=len(self._generations), tools=len(self._record.tools), told=len(self._told))


@dataclass(kw_only=True, slots=True)
class _UserTurn:
    """Where a user turn begins among model calls, tool calls and what was told of tokens, and when it was answered."""

    turns: int
    tools: int
    told: int
    answered_s: float = 0.0


def _usages(generations: Sequence[inference_pb2.GenerateFinish]) -> list[common_pb2.Usage]:
    return [finish.usage for finish in generations]


def _summed(usages: Sequence[common_pb2.Usage]) -> common_pb2.Usage:
    summed = common_pb2.Usage()
    for usage in usages:
        summed.prompt_tokens += usage.prompt_tokens
        summed.completion_tokens += usage.completion_tokens
        summed.cached_prompt_tokens += usage.cached_prompt_tokens
    return summed


def _summed_timings(generations: Sequence[inference_pb2.GenerateFinish]) -> common_pb2.EngineTimings:
    """The times of all generations together; of decode's steps the mean of all, and the worst of each quantile."""
    if len(generations) == 1:  # as in most runs, which wait for this
        return generations[0].timings
    timings = [finish.timings for finish in generations]
    summed = common_pb2.EngineTimings()
    for name in _TIMES:
        setattr(summed, name, math.fsum([getattr(of_one, name) for of_one in timings]))
    steps = [of_one.decode_steps for of_one in timings if of_one.decode_steps.count > 0]
    if steps:
        count = sum(step.count for step in steps)
        summed.decode_steps.count = count
        summed.decode_steps.mean_s = math.fsum(step.count * step.mean_s for step in steps) / count
        summed.decode_steps.p50_s = max(step.p50_s for step in steps)
        summed.decode_steps.p99_s = max(step.p99_s for step in steps)
    return summed


def pooled_awareness(generations: Sequence[inference_pb2.GenerateFinish]) -> common_pb2.Awareness:
    """One awareness over all generations: log-probabilities pooled by token, margin, entropy and route at worst.

    `route` is that of the generation whose router was least sure. Generations without a token, or of a server
    that does not tell, say nothing; with none left, the message is empty.
    """
    spoken = [
        finish
        for finish in generations
        if finish.usage.completion_tokens > 0 and finish.HasField("awareness")
    ]
    if not spoken:
        return common_pb2.Awareness()
    if len(spoken) == 1:
        return spoken[0].awareness
    tokens = sum(finish.usage.completion_tokens for finish in spoken)
    mean = (
        math.fsum(finish.awareness.mean_logprob * finish.usage.completion_tokens for finish in spoken)
        / tokens
    )
    routes = [finish.awareness.route for finish in spoken if finish.awareness.HasField("route")]
    return common_pb2.Awareness(
        mean_logprob=mean,
        perplexity=math.exp(-mean),
        max_entropy=max(finish.awareness.max_entropy for finish in spoken),
        low_confidence_tokens=sum(finish.awareness.low_confidence_tokens for finish in spoken),
        min_margin=min(finish.awareness.min_margin for finish in spoken),
        route_uncertainty=max(finish.awareness.route_uncertainty for finish in spoken),
        route=min(routes, key=lambda route: route.probability, default=None),
    )
