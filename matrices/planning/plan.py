"""The plan of a cell: which task when, who goes first, and what the schedule says will happen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chaos import faults
from chaos.schedule import Prediction, Rule, Schedule, predict
from chaos.when import Burst, Every, Rate, When
from controller.policy import Policy
from matrices.arms.arm import Arm, Comparison
from matrices.arms.parts import Part, parts
from matrices.arms.registry import DEFAULT
from matrices.planning.expectation import Expectation, ExpectedPair, ExpectedRun
from matrices.planning.order import Place, baseline_first
from matrices.planning.trace import Terms, expected_run
from matrices.spec.profiles import Profile, RuleSpec
from matrices.spec.suites import Suite, Task
from tools_svc.registry import tool_specs
from treni.errors import invalid_argument

AA_CELL = "aa"
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
    """One profile to be run, the arms that it compares and its pairs in order; `seed` is the campaign's.

    The pairs are `fault_seeds` groups of the same tasks, one after the other, each under a fault seed of its own.
    `beside` are arms whose processes are up too, and are asked nothing.
    """

    name: str
    profile: Profile
    comparison: Comparison
    pairs: tuple[PlannedPair, ...]
    seed: int
    idempotency: bool
    fault_seeds: int = 1
    beside: tuple[Arm, ...] = ()

    @property
    def arms(self) -> tuple[str, str]:
        """The names of its arms, the baseline's first."""
        return self.comparison.names

    @property
    def parts(self) -> dict[str, Part]:
        """The processes that it runs with, proxies aside, by role: those that call no other first."""
        return parts((*self.comparison, *self.beside))

    @property
    def schedule(self) -> Schedule:
        """The profile's schedule, its faults named after the cell."""
        cycle = len(self.pairs) // self.fault_seeds if self.fault_seeds > 1 else None
        return schedule_of(self.profile, prefix=self.name, cycle=cycle)

    @property
    def calls(self) -> tuple[int, ...]:
        """How many calls each request makes on the hop that the profile faults, if none fails."""
        # Every tool call is answered by one more turn of the model, and the answer itself is a turn.
        answer = int(self.profile.faults.hop == "model")
        return tuple(len(planned.task.expect.calls) + answer for planned in self.pairs)

    @property
    def timeout_s(self) -> float:
        """The limit of one attempt on the hop that the profile faults."""
        policy = self.profile.policy
        return policy.tool_timeout if self.profile.faults.hop == "tool" else policy.model_timeout

    def faulted(self, arm: str) -> bool:
        """Whether the schedule acts on that arm: a hop's faults only where there is a hop."""
        spec = self.profile.faults
        reached = spec.site == "tool" or spec.hop in self.comparison.arm(arm).faultable
        return bool(spec.rules) and reached

    @property
    def struck(self) -> tuple[str, ...]:
        """The arms on which the schedule acts, the compared one first."""
        return tuple(arm for arm in reversed(self.arms) if self.faulted(arm))

    @property
    def breaks_hosts(self) -> bool:
        """Whether its faults harm the processes that host tools, and with them whoever else is served there."""
        return any(isinstance(kind, faults.HostKind) for kind in self.schedule.kinds)

    def prediction(self, arm: str) -> Prediction | None:
        """What the schedule does to the arm's requests; None for an arm that it does not touch."""
        if not self.faulted(arm):
            return None
        tasks = [planned.task for planned in self.pairs]
        flags = [
            [call.name in SIDE_EFFECT_TOOLS and not call.refused for call in task.expect.calls]
            for task in tasks
        ]
        return predict(
            self.schedule,
            self.calls,
            self.profile.policy.retries,
            timeout_s=self.timeout_s,
            side_effects=flags if self.profile.faults.hop == "tool" else None,
            idempotency=self.idempotency,
        )

    def by_fault_seed(self) -> tuple[PlannedCell, ...]:
        """The groups of the cell's pairs as cells of their own, under the seed of each."""
        size = len(self.pairs) // self.fault_seeds
        faults = self.profile.faults
        return tuple(
            replace(
                self,
                profile=self.profile.model_copy(
                    update={"faults": faults.model_copy(update={"seed": faults.seed + group})}
                ),
                pairs=self.pairs[group * size : (group + 1) * size],
                fault_seeds=1,
            )
            for group in range(self.fault_seeds)
        )


def plan_cell(
    profile: Profile,
    suite: Suite,
    *,
    comparison: Comparison = DEFAULT,
    runs: int,
    seed: int = 0,
    restarts: int = 1,
    idempotency: bool = True,
    fault_seeds: int = 1,
) -> PlannedCell:
    """Two arms under a profile: `runs` blocks for each fault seed.

    `seed` draws who goes first; the blocks lie in `restarts` segments. Raises INVALID_ARGUMENT for several fault
    seeds where no fault depends on one, for faults that reach neither arm, and for a profile that would take the A/A
    cell's name.
    """
    faults = profile.faults
    if profile.short == AA_CELL:
        raise invalid_argument(
            "profile_name_reserved",
            expected=f"a profile whose name does not begin with {AA_CELL!r}, the name of the A/A cell",
            got=profile.name,
            todo="rename it: its name up to the first underscore is the cell's name",
        )
    if fault_seeds > 1 and faults.rules and faults.by == "attempt":
        raise invalid_argument(
            "fault_seeds_without_draws",
            expected=f"a schedule by request in {profile.name} for {fault_seeds} fault seeds",
            got='by = "attempt", whose faults are the same under every seed',
            todo='use --fault-seeds 1, or a profile with by = "request"',
        )
    cell = PlannedCell(
        name=profile.short,
        profile=profile,
        comparison=comparison,
        pairs=_pairs(suite.take(runs) * fault_seeds, comparison.names, restarts),
        seed=seed,
        idempotency=idempotency,
        fault_seeds=fault_seeds,
    )
    if faults.rules and not cell.struck:
        raise invalid_argument(
            "faults_reach_no_arm",
            expected=f"an arm whose {faults.hop} hop can be faulted, for {profile.name}",
            got=" and ".join(cell.arms),
            todo='compare other arms, or use a profile with site = "tool"',
        )
    return _drawn(replace(cell, comparison=comparison.apart) if cell.breaks_hosts else cell)


def plan_aa(
    suite: Suite,
    *,
    comparison: Comparison = DEFAULT,
    runs: int,
    seed: int = 0,
    restarts: int = 1,
    idempotency: bool = True,
) -> PlannedCell:
    """The baseline against its second instance, without faults: what makes a difference that is none.

    The second instance has processes of its own, so that what one process differs from another by is part of the
    noise floor; the compared arm's are up beside them, as in every other cell.
    """
    floor = comparison.floor
    cell = PlannedCell(
        name=AA_CELL,
        profile=Profile(
            name=AA_CELL, title=f"The {comparison.baseline.name} arm against itself: the noise floor"
        ),
        comparison=floor,
        pairs=_pairs(suite.take(runs), floor.names, restarts),
        seed=seed,
        idempotency=idempotency,
        beside=(comparison.compared,),
    )
    return _drawn(cell)


def _pairs(
    blocks: Sequence[tuple[Task, ...]], arms: tuple[str, str], restarts: int
) -> tuple[PlannedPair, ...]:
    """The pairs of these blocks, their strata and orders not yet known."""
    tasks = [(block, task) for block, tasks in enumerate(blocks) for task in tasks]
    return tuple(
        PlannedPair(
            pair=number,
            block=block,
            segment=block * restarts // len(blocks),
            task=task,
            stratum="-",
            order=arms,
        )
        for number, (block, task) in enumerate(tasks)
    )


def _drawn(cell: PlannedCell) -> PlannedCell:
    """The cell with the stratum of each pair, and with who goes first drawn."""
    # Arms that are both faulted meet the same faults, so that one arm's letters name the stratum.
    prediction = cell.prediction(cell.struck[0]) if cell.struck else None
    strata = ["-" if prediction is None else prediction.stratum(planned.pair) for planned in cell.pairs]
    places = [
        Place(
            block=planned.block,
            stratum=stratum,
            calls=len(planned.task.expect.calls),
            task=planned.task.id,
        )
        for planned, stratum in zip(cell.pairs, strata, strict=True)
    ]
    first = baseline_first(places, cell.seed)
    pairs = (
        replace(planned, stratum=stratum, order=cell.arms if is_first else cell.arms[::-1])
        for planned, stratum, is_first in zip(cell.pairs, strata, first, strict=True)
    )
    return replace(cell, pairs=tuple(pairs))


def expectation_of(cell: PlannedCell) -> Expectation:
    """What the checker compares the cell's history with."""
    predictions = {arm: cell.prediction(arm) for arm in cell.arms}
    hop, policy = cell.profile.faults.hop, policy_of(cell.profile, seed=cell.seed)

    def run(arm: str, planned: PlannedPair) -> ExpectedRun:
        prediction = predictions[arm]
        return expected_run(
            planned.task,
            Terms(
                arm=cell.comparison.arm(arm),
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
        comparison=cell.comparison,
        roles=frozenset(cell.parts),
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
        breaks_hosts=cell.breaks_hosts,
        standstill_s=max(
            (
                kind.duration_ms / 1000
                for kind in cell.schedule.kinds
                if isinstance(kind, faults.Hang | faults.Hog)
            ),
            default=0.0,
        ),
    )


def _when(rule: RuleSpec) -> When:
    if rule.burst is not None:
        burst = rule.burst
        return Burst(enter=burst.enter, leave=burst.leave, rate=burst.rate, rate_outside=burst.rate_outside)
    if rule.rate is not None:
        return Rate(rate=rule.rate)
    assert rule.every is not None
    return Every(every=rule.every)


def schedule_of(profile: Profile, *, prefix: str, cycle: int | None = None) -> Schedule:
    """The chaos schedule that a profile's `[faults]` describes; `cycle` as in `Schedule`."""
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
        rules=tuple(
            Rule(
                kind=from_rule[rule.kind](rule),
                when=_when(rule),
                from_request=rule.from_request,
                to_request=rule.to_request,
            )
            for rule in spec.rules
        ),
        cycle=cycle,
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
