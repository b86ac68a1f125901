"""The plan of a cell: which task when, who goes first, and what the schedule says will happen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chaos import faults
from chaos.schedule import Prediction, Rule, Schedule, predict
from controller.policy import Policy
from matrices.expectation import Expectation, ExpectedPair, ExpectedRun
from matrices.order import Place, baseline_first
from matrices.profiles import Profile
from matrices.suites import Suite, Task
from matrices.trace import Arm, expected_run
from tools_svc.registry import tool_specs

AA_CELL = "aa"
INTERNAL = "internal"
EXTERNAL = "external"
INTERNAL_AGAIN = "internal_b"

ROLES = {INTERNAL: "runtime", INTERNAL_AGAIN: "runtime_b", EXTERNAL: "controller"}
"""The role that answers for each arm. The A/A cell has a runtime for each of its arms, so that what one process
differs from another by is part of the noise floor."""

SIDE_EFFECT_TOOLS: tuple[str, ...] = tuple(spec.name for spec in tool_specs() if spec.has_side_effects)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedPair:
    """One pair: its task, its block (a run of the suite), the block's segment, its stratum, and who goes first.

    `pair` is its position in the plan and the request index of both its requests. A segment is a group of blocks
    with processes of their own; a stratum names the faults planned on the pair, "-" for none.
    """

    pair: int
    block: int
    segment: int
    task: Task
    stratum: str
    order: tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCell:
    """One profile to be run, its two arms (the baseline first) and its pairs in order; `seed` is the campaign's."""

    name: str
    profile: Profile
    arms: tuple[str, str]
    pairs: tuple[PlannedPair, ...]
    seed: int
    idempotency: bool

    @property
    def schedule(self) -> Schedule:
        """The profile's schedule, its faults named after the cell."""
        return schedule_of(self.profile, prefix=self.name)

    def faulted(self, arm: str) -> bool:
        """Whether the schedule acts on that arm: a hop's faults only where there is a hop."""
        spec = self.profile.faults
        return bool(spec.rules) and (spec.site == "tool" or arm == EXTERNAL)

    def prediction(self, arm: str) -> Prediction | None:
        """What the schedule does to the arm's requests; None for an arm that it does not touch."""
        if not self.faulted(arm):
            return None
        return _predicted(self.profile, self.name, [pair.task for pair in self.pairs], self.idempotency)


def plan_cell(
    profile: Profile, suite: Suite, *, runs: int, seed: int = 0, restarts: int = 1, idempotency: bool = True
) -> PlannedCell:
    """The internal arm against the external one under a profile: `runs` blocks in `restarts` segments.

    `seed` draws who goes first.
    """
    return _plan(profile, suite, (INTERNAL, EXTERNAL), runs, seed, restarts, idempotency)


def plan_aa(
    suite: Suite, *, runs: int, seed: int = 0, restarts: int = 1, idempotency: bool = True
) -> PlannedCell:
    """The internal arm against itself in another process, without faults: what makes a difference that is none."""
    profile = Profile(name=AA_CELL, title="The internal arm against itself: the noise floor")
    return _plan(profile, suite, (INTERNAL, INTERNAL_AGAIN), runs, seed, restarts, idempotency)


def _plan(
    profile: Profile,
    suite: Suite,
    arms: tuple[str, str],
    runs: int,
    seed: int,
    restarts: int,
    idempotency: bool,
) -> PlannedCell:
    tasks = [(block, task) for block, tasks in enumerate(suite.take(runs)) for task in tasks]
    strata = ["-"] * len(tasks)
    if profile.faults.rules:
        # Twins meet the same faults in both arms, so that one arm's letters name the stratum.
        predicted = _predicted(profile, profile.short, [task for _, task in tasks], idempotency)
        strata = [request.stratum for request in predicted.requests]
    places = [
        Place(block=block, stratum=stratum, calls=len(task.expect.calls), task=task.id)
        for (block, task), stratum in zip(tasks, strata, strict=True)
    ]
    first = baseline_first(places, seed)
    pairs = tuple(
        PlannedPair(
            pair=number,
            block=block,
            segment=block * restarts // runs,
            task=task,
            stratum=strata[number],
            order=arms if first[number] else (arms[1], arms[0]),
        )
        for number, (block, task) in enumerate(tasks)
    )
    return PlannedCell(
        name=profile.short, profile=profile, arms=arms, pairs=pairs, seed=seed, idempotency=idempotency
    )


def _predicted(profile: Profile, prefix: str, tasks: Sequence[Task], idempotency: bool) -> Prediction:
    """What the profile's schedule does to requests with these tasks, one after another."""
    spec, policy = profile.faults, profile.policy
    # Every tool call is answered by one more turn of the model, and the answer itself is a turn.
    calls = [len(task.expect.calls) + (spec.hop == "model") for task in tasks]
    flags = [
        [call.name in SIDE_EFFECT_TOOLS and not call.refused for call in task.expect.calls] for task in tasks
    ]
    return predict(
        schedule_of(profile, prefix=prefix),
        calls,
        policy.retries,
        timeout_s=policy.tool_timeout if spec.hop == "tool" else policy.model_timeout,
        side_effects=flags if spec.hop == "tool" else None,
        idempotency=idempotency,
    )


def expectation_of(cell: PlannedCell) -> Expectation:
    """What the checker compares the cell's history with."""
    predictions = {arm: cell.prediction(arm) for arm in cell.arms}
    hop, policy = cell.profile.faults.hop, policy_of(cell.profile, seed=cell.seed)

    def run(arm: str, planned: PlannedPair) -> ExpectedRun:
        prediction = predictions[arm]
        return expected_run(
            planned.task,
            Arm(
                has_hops=arm == EXTERNAL,
                policy=policy,
                idempotency=cell.idempotency,
                side_effect_tools=SIDE_EFFECT_TOOLS,
            ),
            request_index=planned.pair,
            hop=hop,
            request=None if prediction is None else prediction.requests[planned.pair],
        )

    return Expectation(
        cell=cell.name,
        arms=cell.arms,
        roles={arm: ROLES[arm] for arm in cell.arms},
        pairs=tuple(
            ExpectedPair(
                pair=planned.pair,
                block=planned.block,
                task=planned.task,
                stratum=planned.stratum,
                segment=planned.segment,
                order=planned.order,
                runs={arm: run(arm, planned) for arm in cell.arms},
            )
            for planned in cell.pairs
        ),
        policy=policy,
        idempotency=cell.idempotency,
        faulted=tuple(arm for arm in cell.arms if cell.faulted(arm)),
        hop=hop,
        first_attempt=cell.schedule.start,
    )


def schedule_of(profile: Profile, *, prefix: str) -> Schedule:
    """The chaos schedule that a profile's `[faults]` describes."""
    spec = profile.faults
    from_rule: dict[str, Callable[..., faults.Kind]] = {
        "status": lambda rule: faults.Status(code=rule.code),
        "stall": lambda rule: faults.Stall(direction=rule.direction),
        "reset": lambda rule: faults.Reset(),
        "latency": lambda rule: faults.Latency(delay_ms=max(1, round(rule.delay * 1e3))),
        "bandwidth": lambda rule: faults.Bandwidth(rate_kb_s=rule.rate_kb_s),
        "slicer": lambda rule: faults.Slicer(
            average_size_bytes=rule.average_size, delay_us=max(1, round(rule.delay * 1e6))
        ),
    }
    return Schedule(
        prefix=prefix,
        site=spec.site,
        hop=spec.hop,
        by=spec.by,
        warmup=spec.warmup,
        seed=spec.seed,
        rules=tuple(Rule(kind=from_rule[rule.kind](rule), every=rule.every) for rule in spec.rules),
    )


def policy_of(profile: Profile, *, seed: int) -> Policy:
    """The controller's policy that a profile's `[policy]` describes."""
    spec = profile.policy
    return Policy(
        run_timeout_s=spec.run_timeout,
        model_timeout_s=spec.model_timeout,
        tool_timeout_s=spec.tool_timeout,
        retries=spec.retries,
        backoff_initial_s=spec.backoff_initial,
        backoff_max_s=spec.backoff_max,
        backoff_multiplier=spec.backoff_multiplier,
        backoff_jitter=spec.backoff_jitter,
        seed=seed,
    )
