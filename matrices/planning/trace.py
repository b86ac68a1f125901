"""What a run does on its hops, derived: from its task, the schedule's prediction for it, and the policy. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.faults import Fault, Hop
from chaos.prediction import PredictedAttempt, PredictedRequest
from controller.policy import Policy
from matrices.arms.arm import Arm
from matrices.planning.expectation import (
    ExpectedAttempt,
    ExpectedEffect,
    ExpectedError,
    ExpectedRun,
    PlannedFault,
    waits_of,
)
from matrices.planning.steps import AGENT, MODEL, TOOL, Step, steps
from matrices.spec.suites import ExpectedCall, Task
from treni.errors import Code

AMPLE = 0.8
"""The share of a run's time up to which planned waits leave its own deadline out of play."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What decides how the runs of an arm go: its hops, the policy, and what its ledger is told."""

    arm: Arm
    policy: Policy
    idempotency: bool
    side_effect_tools: tuple[str, ...]
    """The tools whose calls leave a row in the ledger."""
    unrecorded_tools: tuple[str, ...] = ()
    """Other tools with side effects: of what they did nothing is known but that it may have happened."""


def expected_run(
    task: Task,
    terms: Terms,
    *,
    request_index: int,
    request: PredictedRequest | None = None,
    made: Sequence[Step] | None = None,
) -> ExpectedRun:
    """The run of a task whose attempts are as `request` predicts; where that says nothing, nothing acts on it.

    It calls as its scenario says, or as it was `made`, until a call fails for good. Of an arm that is not seen, only
    the calls of the agent are known, one for each user turn.
    """
    run = _Run(task=task, terms=terms, request_index=request_index, made_calls=made is not None)
    for attempt in () if request is None else request.attempts:
        run.predicted.setdefault((attempt.hop, attempt.call_index), []).append(attempt)
    if not run.enter():
        return run.made(calls=0, turns=0, answers=())
    done: Counter[Hop] = Counter()
    answers: list[int] = []
    if not terms.arm.seen:
        for turn, _ in enumerate(task.turns):
            run.call(Step(hop=AGENT, index=turn, call=None))
            answers.append(len(run.attempts))
        return run.made(calls=0, turns=0, answers=answers)
    for step in steps(task) if made is None else made:
        if not run.call(step):
            break
        done[step.hop] += 1
        if step.last:
            answers.append(len(run.attempts))
    return run.made(calls=done[TOOL], turns=done[MODEL], answers=answers)


@dataclass(kw_only=True, slots=True)
class _Run:
    """A run as far as it has been followed."""

    task: Task
    terms: Terms
    request_index: int
    made_calls: bool = False
    predicted: dict[tuple[Hop, int], list[PredictedAttempt]] = field(default_factory=dict)
    attempts: list[ExpectedAttempt] = field(default_factory=list)
    effects: list[ExpectedEffect] = field(default_factory=list)
    may_have_effects: bool = False
    error: ExpectedError | None = None
    lost: bool = False
    entry: ExpectedAttempt | None = None

    def enter(self) -> bool:
        """Follows the client's call of the agent, which only a fault makes one to speak of; whether it arrives."""
        (one,) = self.predicted.get((AGENT, 0), [None])
        if one is None or one.fault is None:
            return True
        self.entry = self._attempt(Step(hop=AGENT, index=0, call=None), one)
        return self.entry.tool_runs

    def call(self, step: Step) -> bool:
        """Follows one call over its attempts; whether the run goes on after it."""
        call = step.call
        # A fault of the client's call strikes before there is a run, and none of what it calls.
        predicted = None if step.hop == AGENT else self.predicted.get((step.hop, step.index))
        made = [self._attempt(step, one) for one in ([None] if predicted is None else predicted)]
        self.attempts += made
        recorded = call is not None and call.name in self.terms.side_effect_tools
        if call is not None and recorded:
            self._take_effect(made, call)
        if call is not None and (recorded or call.name in self.terms.unrecorded_tools):
            self.may_have_effects |= any(one.outcome != "fail" for one in made)
        last = made[-1]
        goes_on = last.outcome == "ok" or last.kinds is None
        if not goes_on:
            self._fail(made)
        return goes_on

    def _attempt(self, step: Step, one: PredictedAttempt | None) -> ExpectedAttempt:
        hop, index, call = step.hop, step.index, step.call
        policy, number = self.terms.policy, 0 if one is None else one.attempt
        fault = None if one is None else one.fault
        ending = None if one is None else one.ending
        outcome, code = "ok", Code.OK.name
        kinds: frozenset[str] | None = frozenset({""})
        if ending is not None and ending.is_error:
            outcome, code, kinds = ending.outcome, ending.code, ending.kinds
        elif call is not None and call.refused:
            outcome, code, kinds = "fail", step.refusal, None
        wait_s = 0.0
        if number > 0:
            wait_s = policy.backoff_s(
                hop=hop, request_index=self.request_index, call_index=index, attempt=number
            )
        return ExpectedAttempt(
            hop=hop,
            call_index=index,
            attempt=number,
            name="" if call is None else call.name,
            fault=None if fault is None else _planned(fault, in_process="tool" not in self.terms.arm.hops),
            outcome=outcome,
            code=code,
            kinds=kinds,
            backoff_s=wait_s,
            ending=ending,
        )

    def _take_effect(self, made: Iterable[ExpectedAttempt], call: ExpectedCall) -> None:
        """With a key only the first attempt in which the tool runs leaves a row, without one each of them does."""
        if call.refused:
            return
        ran = [one for one in made if one.tool_runs]
        arguments: dict[str, Any] = call.arguments
        self.effects += [
            ExpectedEffect(
                call_index=one.call_index,
                attempt=one.attempt,
                account=arguments["account"],
                amount=arguments["amount"],
            )
            for one in (ran[:1] if self.terms.idempotency else ran)
            # A call that was made, and that nobody planned, may be none that the tool takes.
            if isinstance(arguments.get("account"), str) and isinstance(arguments.get("amount"), int)
        ]

    def _fail(self, made: list[ExpectedAttempt]) -> None:
        last = made[-1]
        assert last.fault is not None, "only a fault ends a run that goes as planned"
        if last.ending is not None and last.ending.caller_dies:
            # The loop dies with the tool: the client sees its connection break, and nobody names the fault.
            self.lost = True
            self.error = ExpectedError(
                code=last.code, kind=last.code.lower(), definite=False, hop="agent", fault_id=""
            )
            return
        definite = all(one.outcome == "fail" for one in made) and not self.may_have_effects
        self.error = ExpectedError(
            code=last.code,
            kind=f"{last.hop}_hop_failed",
            definite=definite,
            hop=last.hop,
            fault_id=last.fault.id,
        )

    def made(self, *, calls: int, turns: int, answers: Sequence[int]) -> ExpectedRun:
        """The run as followed so far."""
        entry = self.entry
        if entry is not None and entry.outcome != "ok":
            # Whatever became of the run, the client is told nothing else, and has no record.
            assert entry.fault is not None
            assert entry.kinds is not None
            (kind,) = entry.kinds
            definite = entry.outcome == "fail"
            self.lost, answers = True, ()
            self.error = ExpectedError(
                code=entry.code,
                kind=kind,
                definite=definite,
                hop=AGENT,
                fault_id=entry.fault.id if definite else "",
            )
        waits_s = waits_of(entry, self.attempts)
        seen, by_model = self.terms.arm.seen, self.terms.arm.model_outside
        known = seen and not self.made_calls and self.task.told
        return ExpectedRun(
            entry=entry,
            attempts=tuple(self.attempts),
            calls=self.task.calls[:calls] if known else None,
            turns=turns if seen else None,
            open=seen and not self.made_calls and (by_model or not self.task.told),
            answers=tuple(answers),
            effects=tuple(self.effects),
            error=self.error,
            hurried=waits_s > AMPLE * self.terms.policy.run_timeout_s,
            lost=self.lost,
        )


def _planned(fault: Fault, *, in_process: bool) -> PlannedFault:
    how = fault.how(in_process=in_process)
    return PlannedFault(id=fault.id, kind=fault.kind, site=fault.site, hop=fault.hop, how=how)
