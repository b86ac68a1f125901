"""What a run does on its hops, derived: from its task, the schedule's prediction for it, and the policy. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chaos.faults import Fault, Hop
from chaos.prediction import PredictedAttempt, PredictedRequest
from controller.policy import Policy
from matrices.planning.expectation import (
    ExpectedAttempt,
    ExpectedEffect,
    ExpectedError,
    ExpectedRun,
    PlannedFault,
)
from matrices.spec.suites import ExpectedCall, Task
from treni.errors import Code

MODEL: Hop = "model"
TOOL: Hop = "tool"

AMPLE = 0.8
"""The share of a run's time up to which planned waits leave its own deadline out of play."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """What of an arm decides how its runs go: whether it has hops, its policy, and what its ledger is told."""

    has_hops: bool
    policy: Policy
    idempotency: bool
    side_effect_tools: tuple[str, ...]


def expected_run(
    task: Task, arm: Arm, *, request_index: int, request: PredictedRequest | None = None
) -> ExpectedRun:
    """The run of a task whose attempts are as `request` predicts; where that says nothing, nothing acts on it.

    The loop asks the model, runs the tool that the turn asks for, and so on, one call a turn; the last turn answers.
    """
    run = _Run(task=task, arm=arm, request_index=request_index)
    for attempt in () if request is None else request.attempts:
        run.predicted.setdefault((attempt.hop, attempt.call_index), []).append(attempt)
    for index, call in enumerate(task.expect.calls):
        if not run.call(MODEL, index, None):
            return run.made(calls=index, turns=index)
        if not run.call(TOOL, index, call):
            return run.made(calls=index, turns=index + 1)
    answered = run.call(MODEL, len(task.expect.calls), None)
    return run.made(calls=len(task.expect.calls), turns=len(task.expect.calls) + answered)


@dataclass(kw_only=True, slots=True)
class _Run:
    """A run as far as it has been followed."""

    task: Task
    arm: Arm
    request_index: int
    predicted: dict[tuple[Hop, int], list[PredictedAttempt]] = field(default_factory=dict)
    attempts: list[ExpectedAttempt] = field(default_factory=list)
    effects: list[ExpectedEffect] = field(default_factory=list)
    may_have_effects: bool = False
    error: ExpectedError | None = None
    lost: bool = False

    def call(self, hop: Hop, index: int, call: ExpectedCall | None) -> bool:
        """Follows one call over its attempts; whether the run goes on after it."""
        predicted = self.predicted.get((hop, index))
        made = [self._attempt(hop, index, call, one) for one in ([None] if predicted is None else predicted)]
        self.attempts += made
        changes = call is not None and call.name in self.arm.side_effect_tools
        if call is not None and changes:
            self._take_effect(made, call)
            self.may_have_effects |= any(one.outcome != "fail" for one in made)
        last = made[-1]
        goes_on = last.outcome == "ok" or last.kinds is None
        if not goes_on:
            self._fail(made)
        return goes_on

    def _attempt(
        self, hop: Hop, index: int, call: ExpectedCall | None, one: PredictedAttempt | None
    ) -> ExpectedAttempt:
        policy, number = self.arm.policy, 0 if one is None else one.attempt
        fault = None if one is None else one.fault
        ending = None if one is None else one.ending
        outcome, code = "ok", Code.OK.name
        kinds: frozenset[str] | None = frozenset({""})
        if ending is not None and ending.is_error:
            outcome, code, kinds = ending.outcome, ending.code, ending.kinds
        elif call is not None and call.refused:
            outcome, code, kinds = "fail", Code.INVALID_ARGUMENT.name, None
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
            fault=None if fault is None else _planned(fault, in_process=not self.arm.has_hops),
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
            for one in (ran[:1] if self.arm.idempotency else ran)
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

    def made(self, *, calls: int, turns: int) -> ExpectedRun:
        """The run as followed so far."""
        waits_s = math.fsum(one.backoff_s + one.held_s for one in self.attempts)
        return ExpectedRun(
            attempts=tuple(self.attempts),
            calls=self.task.expect.calls[:calls],
            turns=turns,
            effects=tuple(self.effects),
            error=self.error,
            hurried=waits_s > AMPLE * self.arm.policy.run_timeout_s,
            lost=self.lost,
        )


def _planned(fault: Fault, *, in_process: bool) -> PlannedFault:
    how = fault.how(in_process=in_process)
    return PlannedFault(id=fault.id, kind=fault.kind, site=fault.site, hop=fault.hop, how=how)
