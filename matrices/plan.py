"""The plan of a cell: which task when, who goes first, and what the schedule says will happen. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos import faults
from chaos.schedule import Prediction, Rule, Schedule, predict
from matrices.expectation import UNFAULTED, Expectation, ExpectedPair, ExpectedRun, expected_run
from matrices.profiles import Profile
from matrices.suites import Suite, Task
from tools_svc.registry import tool_specs

AA_CELL = "aa"
INTERNAL = "internal"
EXTERNAL = "external"
INTERNAL_AGAIN = "internal_b"

TOOL_HOSTS = {INTERNAL: "runtime", INTERNAL_AGAIN: "runtime_b", EXTERNAL: "tools"}
"""The role whose process hosts each arm's tools, and so meets the faults of tools that break their host."""

SIDE_EFFECT_TOOLS: tuple[str, ...] = tuple(spec.name for spec in tool_specs() if spec.has_side_effects)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedPair:
    """One pair: its task, its block (the run of the suite), and who goes first.

    `pair` is its position in the plan and the request index of both its requests.
    """

    pair: int
    block: int
    task: Task
    order: tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCell:
    """One profile to be run, its two arms (the baseline first) and its pairs in order."""

    name: str
    profile: Profile
    arms: tuple[str, str]
    pairs: tuple[PlannedPair, ...]
    idempotency: bool

    @property
    def schedule(self) -> Schedule:
        """The profile's schedule, its faults named after the cell."""
        return schedule_of(self.profile, prefix=self.name)

    def faulted(self, arm: str) -> bool:
        """Whether the schedule acts on that arm: a hop's faults only where there is a hop."""
        spec = self.profile.faults
        return bool(spec.rules) and (spec.site == "tool" or arm == EXTERNAL)

    @property
    def breaks_hosts(self) -> bool:
        """Whether its faults harm the processes that host tools, and with them whoever else is served there."""
        return any(isinstance(kind, faults.HostKind) for kind in self.schedule.kinds)

    def prediction(self, arm: str) -> Prediction | None:
        """What the schedule does to the arm's requests; None for an arm that it does not touch."""
        if not self.faulted(arm):
            return None
        spec, policy = self.profile.faults, self.profile.policy
        tasks = [planned.task for planned in self.pairs]
        # Every tool call is answered by one more turn of the model, and the answer itself is a turn.
        calls = [len(task.expect.calls) + (spec.hop == "model") for task in tasks]
        flags = [[call.name in SIDE_EFFECT_TOOLS for call in task.expect.calls] for task in tasks]
        return predict(
            self.schedule,
            calls,
            policy.retries,
            timeout_s=policy.tool_timeout if spec.hop == "tool" else policy.model_timeout,
            side_effects=flags if spec.hop == "tool" else None,
            idempotency=self.idempotency,
        )


def plan_cell(profile: Profile, suite: Suite, *, runs: int, idempotency: bool = True) -> PlannedCell:
    """The internal arm against the external one under a profile."""
    arms = (INTERNAL, EXTERNAL)
    return PlannedCell(
        name=profile.short,
        profile=profile,
        arms=arms,
        pairs=_pairs(suite, runs, arms),
        idempotency=idempotency,
    )


def plan_aa(suite: Suite, *, runs: int, idempotency: bool = True) -> PlannedCell:
    """The internal arm against itself, without faults: what the harness and the machine make of no difference."""
    profile = Profile(name=AA_CELL, title="The internal arm against itself: the noise floor")
    arms = (INTERNAL, INTERNAL_AGAIN)
    return PlannedCell(
        name=AA_CELL, profile=profile, arms=arms, pairs=_pairs(suite, runs, arms), idempotency=idempotency
    )


def _pairs(suite: Suite, runs: int, arms: tuple[str, str]) -> tuple[PlannedPair, ...]:
    pairs: list[PlannedPair] = []
    for block, tasks in enumerate(suite.take(runs)):
        for position, task in enumerate(tasks):
            # Alternates within a block and from block to block, so that a position in the block is no confound.
            order = arms if (block + position) % 2 == 0 else (arms[1], arms[0])
            pairs.append(PlannedPair(pair=len(pairs), block=block, task=task, order=order))
    return tuple(pairs)


def expectation_of(cell: PlannedCell) -> Expectation:
    """What the checker compares the cell's history with."""
    predictions = {arm: cell.prediction(arm) for arm in cell.arms}
    pairs = []
    for planned in cell.pairs:
        runs: dict[str, ExpectedRun] = {}
        strata = []
        for arm, prediction in predictions.items():
            if prediction is None:
                runs[arm] = UNFAULTED
            else:
                runs[arm] = expected_run(prediction.requests[planned.pair])
                strata.append(prediction.stratum(planned.pair))
        pairs.append(
            ExpectedPair(
                pair=planned.pair,
                block=planned.block,
                task_id=planned.task.id,
                # Twins meet the same faults in both arms, so that one arm's letters name the stratum.
                stratum=strata[0] if strata else "-",
                runs=runs,
            )
        )
    return Expectation(
        cell=cell.name,
        arms=cell.arms,
        pairs=tuple(pairs),
        duplicates={arm: p.duplicates if p is not None else 0 for arm, p in predictions.items()},
        phantoms={arm: p.phantoms if p is not None else 0 for arm, p in predictions.items()},
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
        "crash": lambda rule: faults.Crash(),
        "hang": lambda rule: faults.Hang(duration_ms=max(1, round(rule.duration * 1e3))),
        "hog": lambda rule: faults.Hog(
            duration_ms=max(1, round(rule.duration * 1e3)), memory_mb=rule.memory_mb
        ),
        "leak": lambda rule: faults.Leak(size_mb=rule.size_mb),
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
