"""The plan of a cell: which task when, who goes first, and what the schedule says will happen. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from chaos.faults import FaultKind, Hop
from chaos.prediction import PlannedCall, Prediction, predict
from chaos.schedule import Schedule
from matrices.arms.arm import Arm, Comparison
from matrices.arms.parts import ONE_OF_EACH, Part, Replicas, parts
from matrices.arms.registry import DEFAULT
from matrices.planning.expectation import Counter
from matrices.planning.order import Place, baseline_first
from matrices.planning.schedules import schedules_of
from matrices.planning.steps import AGENT, MODEL, TOOL, Step, steps
from matrices.spec.profiles import PolicySpec, Profile
from matrices.spec.suites import Suite, Task
from treni.errors import invalid_argument

AA_CELL = "aa"
SIDE_EFFECT_TOOLS = ("ledger_append",)
"""The tools whose calls leave a row in the ledger, which is where effects are counted."""


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
    `beside` are arms whose processes are up too, and are asked nothing. `alone`: of the arms only the baseline's
    processes are up, and nothing is faulted. `replicas` says how many share a role.
    """

    name: str
    profile: Profile
    comparison: Comparison
    pairs: tuple[PlannedPair, ...]
    seed: int
    idempotency: bool
    fault_seeds: int = 1
    beside: tuple[Arm, ...] = ()
    alone: bool = False
    replicas: Replicas = ONE_OF_EACH

    @property
    def arms(self) -> tuple[str, str]:
        """The names of its arms, the baseline's first."""
        return self.comparison.names

    @property
    def parts(self) -> dict[str, Part]:
        """The processes that it runs with, proxies aside, by role: those that call no other first."""
        up = (self.comparison.baseline,) if self.alone else (*self.comparison, *self.beside)
        return parts(up, self.replicas)

    @property
    def cycle(self) -> int | None:
        """How many requests each fault seed has; None where there is one."""
        return len(self.pairs) // self.fault_seeds if self.fault_seeds > 1 else None

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules of the profile, one for each hop that it faults, their faults named after the cell."""
        return schedules_of(self.profile, prefix=self.name, cycle=self.cycle)

    def schedules_on(self, arm: str) -> tuple[Schedule, ...]:
        """The schedules that act on the arm: a hop's faults only where there is that hop, and it can be faulted.

        Any hop leads to a host, by proxies or not.
        """
        of_arm = self.comparison.arm(arm)
        reached = {"hop": {AGENT, *of_arm.faultable}, "host": {AGENT, *of_arm.hops}}
        reached["tool"] = {TOOL} if of_arm.seen else set()
        return tuple(
            schedule
            for schedule in self.schedules
            if schedule.rules and schedule.hop in reached[schedule.site]
        )

    @property
    def kinds(self) -> tuple[FaultKind, ...]:
        """Every kind of fault that it plans."""
        return tuple(dict.fromkeys(kind for schedule in self.schedules for kind in schedule.kinds))

    @property
    def counters(self) -> tuple[Counter, ...]:
        """The counts of attempts by which its schedules act: an arm's own, or one for each of its hops."""
        return tuple(
            Counter(
                key=arm if len(schedules) == 1 else f"{arm}/{schedule.hop}",
                arm=arm,
                hop=schedule.hop,
                site=schedule.site,
                first=schedule.start,
            )
            for arm in self.arms
            for schedules in [self.schedules_on(arm)]
            for schedule in schedules
        )

    def digest(self, arm: str) -> str:
        """The digest of what is planned for the arm: one schedule's, or that of the digests of several; "" for none."""
        digests = [schedule.digest for schedule in self.schedules_on(arm)]
        if len(digests) < 2:
            return "".join(digests)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def calls(self) -> tuple[tuple[PlannedCall, ...], ...]:
        """The calls that each request makes in their order, if none fails."""
        return tuple(tuple(_calls(steps(planned.task))) for planned in self.pairs)

    @property
    def timeouts_s(self) -> dict[Hop, float]:
        """The limit of one attempt on each hop."""
        policy = self.profile.policy
        return {TOOL: policy.tool_timeout, MODEL: policy.model_timeout, AGENT: policy.run_timeout}

    def faulted(self, arm: str) -> bool:
        """Whether a schedule acts on that arm."""
        return bool(self.schedules_on(arm))

    def called_into_faults(self, arm: str) -> bool:
        """Whether a schedule acts on what the arm calls."""
        return any(schedule.hop != AGENT for schedule in self.schedules_on(arm))

    @property
    def breaks_hosts(self) -> bool:
        """Whether its faults harm the processes that host tools, and with them whoever else is served there."""
        return any(kind.breaks_host for kind in self.kinds)

    @property
    def disturbs(self) -> bool:
        """Whether its faults strike whole hosts or the links between them, so that others run into them."""
        return any(kind.disturbs for kind in self.kinds)

    def opens(self, arm: str) -> tuple[int, ...]:
        """The pairs of which nobody knows before which calls the arm makes for them."""
        side = self.comparison.arm(arm)
        free = (one.pair for one in self.pairs if side.model_outside or not one.task.told)
        return tuple(free) if side.seen else ()

    def prediction(self, arm: str, made: Mapping[int, Sequence[Step]] | None = None) -> Prediction | None:
        """What the schedules do to the arm's requests, in which those `made` call so; None for an untouched arm."""
        schedules = self.schedules_on(arm)
        if not schedules:
            return None
        made = made or {}
        return predict(
            schedules,
            [
                tuple(_calls(made[pair.pair])) if pair.pair in made else calls
                for pair, calls in zip(self.pairs, self.calls, strict=True)
            ],
            retries=self.profile.policy.retries,
            timeouts_s=self.timeouts_s,
            in_process="tool" not in self.comparison.arm(arm).hops,
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
    replicas: Replicas = ONE_OF_EACH,
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
        replicas=replicas,
    )
    if faults.rules and not any(map(cell.faulted, cell.arms)):
        raise invalid_argument(
            "faults_reach_no_arm",
            expected=f"an arm whose {' or '.join(faults.hops)} hop can be faulted, for {profile.name}",
            got=" and ".join(cell.arms),
            todo='compare other arms, or use a profile with site = "tool"',
        )
    apart = cell.breaks_hosts or cell.disturbs
    return _drawn(replace(cell, comparison=comparison.apart) if apart else cell)


def floor_policy(profiles: Iterable[Profile]) -> PolicySpec:
    """The A/A cell's policy beside these profiles: the default one, with each limit as long as the longest of theirs.

    A machine on which a healthy call takes longer than the default limits would make errors of a comparison that has
    no faults, whatever patience its user wrote into the profiles.
    """
    policies = [PolicySpec(), *(profile.policy for profile in profiles)]
    limits = ("run_timeout", "model_timeout", "tool_timeout")
    return PolicySpec(**{limit: max(getattr(policy, limit) for policy in policies) for limit in limits})


def plan_aa(
    suite: Suite,
    *,
    policy: PolicySpec | None = None,
    comparison: Comparison = DEFAULT,
    runs: int,
    seed: int = 0,
    restarts: int = 1,
    idempotency: bool = True,
    replicas: Replicas = ONE_OF_EACH,
) -> PlannedCell:
    """The baseline against its second instance, without faults: what makes a difference that is none.

    The second instance has processes of its own, so that what one process differs from another by is part of the
    noise floor; the compared arm's are up beside them, as in every other cell. `policy` None: the default one.
    """
    floor = comparison.floor
    cell = PlannedCell(
        name=AA_CELL,
        profile=Profile(
            name=AA_CELL,
            title=f"The {comparison.baseline.name} arm against itself: the noise floor",
            policy=PolicySpec() if policy is None else policy,
        ),
        comparison=floor,
        pairs=_pairs(suite.take(runs), floor.names, restarts),
        seed=seed,
        idempotency=idempotency,
        beside=(comparison.compared,),
        replicas=replicas,
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
    strata = _strata(cell)
    places = [
        Place(
            block=planned.block,
            stratum=stratum,
            calls=len(planned.task.calls),
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


def _calls(made: Iterable[Step]) -> Iterator[PlannedCall]:
    """What a run of these steps calls, as the schedules need to know it."""
    yield PlannedCall(hop=AGENT, index=0)
    for step in made:
        call = step.call
        has_effect = call is not None and call.name in SIDE_EFFECT_TOOLS and not call.refused
        yield PlannedCall(hop=step.hop, index=step.index, has_effect=has_effect)


def _strata(cell: PlannedCell) -> list[str]:
    """Of each pair, the faults planned on the compared arm, and before them the baseline's where those are others.

    One that meets nothing needs no name, and twins meet the same in both arms. "?" where nobody told what is called.
    """
    predictions = [(cell.prediction(arm), cell.called_into_faults(arm)) for arm in cell.arms]
    strata = []
    for planned in cell.pairs:
        first, second = (
            "-"
            if prediction is None
            else "?"
            if not planned.task.told and by_call
            else prediction.stratum(planned.pair)
            for prediction, by_call in predictions
        )
        strata.append(second if first in ("-", second) else f"{first}|{second}")
    return strata
