"""Two campaigns beside each other, cell by cell: how the ratio of the arms changed, each arm, and its errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from matrices.arms.arm import Comparison
from matrices.evidence.manifest import ManifestCell
from matrices.planning.expectation import ExpectedPair
from matrices.report.comparison import AA, sample_of
from matrices.report.judged import JudgedCampaign
from matrices.statistics.between import Change, ratio_change, work
from matrices.statistics.estimates import Estimate, PairSample, paired_difference
from matrices.statistics.reliability import RateDifference, error_rate_difference
from matrices.statistics.verdicts import Floor, measure_floor
from treni.errors import TreniError

_OF_THE_HOST = ("system", "machine", "processors", "memory_bytes")
_OF_THE_MODEL = ("checkpoint_sha256", "backend", "device", "dtype")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmBetween:
    """One arm in both campaigns: means in seconds, their difference (second minus first), and how often it failed.

    `difference` is None where the pairs give no interval. In `errors` the baseline is the first campaign.
    """

    arm: str
    means_s: tuple[float, float]
    difference: Estimate | None
    errors: RateDifference


@dataclass(frozen=True, kw_only=True, slots=True)
class CellBetween:
    """One cell in both campaigns, over the pairs that count in both.

    `ratios` are compared over baseline means, without the waits that the plan fixes, `change` is the factor between
    them, None where `unavailable` says why. `biased` names the campaigns (0 and 1) whose A/A row shows a bias, for
    which the change's interval is wider.
    """

    cell: str
    sides: Comparison
    pairs: int
    ratios: tuple[float, float]
    change: Change | None
    arms: tuple[ArmBetween, ...]
    biased: tuple[int, ...]
    unavailable: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Between:
    """Two campaigns beside each other.

    `left_out` says of each cell that is not compared why. `conditions` says what of machine and day is known to differ,
    so that the arms' own latencies are not comparable; nothing there is no proof that they are.
    """

    cells: tuple[CellBetween, ...]
    left_out: tuple[tuple[str, str], ...]
    conditions: tuple[str, ...]


def between(first: JudgedCampaign, second: JudgedCampaign) -> Between:
    """The second campaign beside the first, as far as their plans are one. Pure."""
    cells, left_out = [], []
    for name in dict.fromkeys((*first.cells, *second.cells)):
        if why := incomparable(first, second, name):
            left_out.append((name, why))
        else:
            cells.append(_cell(first, second, name))
    return Between(cells=tuple(cells), left_out=tuple(left_out), conditions=tuple(_conditions(first, second)))


def incomparable(first: JudgedCampaign, second: JudgedCampaign, name: str) -> str:
    """Why the cell's runs are not to be held against each other; "" where they are."""
    for which, campaign in (("first", first), ("second", second)):
        if name not in campaign.cells:
            return f"not in the {which} campaign"
    mine, theirs = (_config(campaign, name) for campaign in (first, second))
    for what in ("arms", "site", "policy", "schedule", "schedule_hash"):
        if getattr(mine, what) != getattr(theirs, what):
            return f"its {what.replace('_', ' ')} differs"
    if all(
        any(pair.pair in of.cells[name].void for of in (first, second))
        for pair in _common(first, second, name)
    ):
        return "no pair of one task counts in both campaigns"
    return ""


def _config(campaign: JudgedCampaign, name: str) -> ManifestCell:
    return next(cell for cell in campaign.manifest.cells if cell.name == name)


def _common(first: JudgedCampaign, second: JudgedCampaign, name: str) -> list[ExpectedPair]:
    """The first campaign's pairs that have both outcomes in both campaigns, of the same task and faults."""
    theirs = {pair.pair: pair for pair in second.expected[name].pairs}
    return [
        pair
        for pair in first.expected[name].pairs
        if (other := theirs.get(pair.pair)) is not None
        and (pair.task, pair.stratum) == (other.task, other.stratum)
        and all(set(pair.runs) <= set(of.cells[name].runs.get(pair.pair, {})) for of in (first, second))
    ]


def _samples(
    campaign: JudgedCampaign, name: str, pairs: Sequence[ExpectedPair], *, by_segment: bool
) -> list[PairSample]:
    mine = {pair.pair: pair for pair in campaign.expected[name].pairs}
    return [
        sample_of(
            mine[pair.pair],
            campaign.cells[name].runs[pair.pair],
            campaign.expected[name].arms,
            pair.segment if by_segment else pair.block,
        )
        for pair in pairs
    ]


def _cell(first: JudgedCampaign, second: JudgedCampaign, name: str) -> CellBetween:
    both = (first, second)
    ended = _common(first, second, name)
    counted = [pair for pair in ended if not any(pair.pair in of.cells[name].void for of in both)]
    by_segment = first.by_segment and first.manifest.restarts == second.manifest.restarts
    samples = [_samples(of, name, counted, by_segment=by_segment) for of in both]
    floors = [_floor(of) for of in both]
    biased = tuple(
        number for number, floor in enumerate(floors) if floor is not None and not floor[0].unbiased
    )
    doubt = sum(
        math.log1p(floor[0].bound_s / floor[1]) for floor in floors if floor and not floor[0].unbiased
    )
    change, unavailable = None, ""
    try:
        change = ratio_change(*samples, doubt=doubt if name != AA else 0.0)
    except TreniError as error:  # too few pairs for an interval
        unavailable = str(error)
    every = [_samples(of, name, ended, by_segment=by_segment) for of in both]
    sides = first.expected[name].comparison
    return CellBetween(
        cell=name,
        sides=sides,
        pairs=len(counted),
        ratios=(_ratio(samples[0]), _ratio(samples[1])),
        change=change,
        arms=tuple(_arm(arm, samples, every, compared=bool(place)) for place, arm in enumerate(sides.names)),
        biased=biased,
        unavailable=unavailable,
    )


def _floor(campaign: JudgedCampaign) -> tuple[Floor, float] | None:
    """The campaign's floor and the baseline's mean in its A/A cell; None where there is none."""
    samples = campaign.samples[AA].valid if AA in campaign.samples else ()
    try:
        return measure_floor(samples), math.fsum(s.baseline_s for s in samples) / len(samples)
    except TreniError:
        return None


def _arm(
    name: str,
    samples: Sequence[Sequence[PairSample]],
    every: Sequence[Sequence[PairSample]],
    *,
    compared: bool,
) -> ArmBetween:
    paired = [_across(*both, compared=compared) for both in zip(*samples, strict=True)]
    try:
        difference = paired_difference(paired)
    except TreniError:  # too few pairs for an interval
        difference = None
    return ArmBetween(
        arm=name,
        means_s=(_mean([one.baseline_s for one in paired]), _mean([one.compared_s for one in paired])),
        difference=difference,
        errors=error_rate_difference(
            [_across(*both, compared=compared) for both in zip(*every, strict=True)]
        ),
    )


def _across(first: PairSample, second: PairSample, *, compared: bool) -> PairSample:
    """One arm's run of the same pair in both campaigns, the first campaign as the baseline."""

    def seconds(sample: PairSample) -> float:
        return sample.compared_s if compared else sample.baseline_s

    def wait(sample: PairSample) -> float:
        own = sample.planned_s if compared else -sample.planned_s
        return sample.shared_wait_s + max(own, 0.0)

    def ok(sample: PairSample) -> bool:
        return sample.compared_ok if compared else sample.baseline_ok

    return replace(
        first,
        baseline_s=seconds(first),
        compared_s=seconds(second),
        planned_s=wait(second) - wait(first),
        shared_wait_s=min(wait(first), wait(second)),
        # The order within the pair is the same in both, so that it says nothing here.
        baseline_first=True,
        cut=0,
        baseline_ok=ok(first),
        compared_ok=ok(second),
    )


def _mean(seconds: Sequence[float]) -> float:
    return math.fsum(seconds) / len(seconds)


def _ratio(samples: Sequence[PairSample]) -> float:
    parts = [work(sample) for sample in samples]
    return _mean([compared for _, compared in parts]) / _mean([baseline for baseline, _ in parts])


def _conditions(first: JudgedCampaign, second: JudgedCampaign) -> Iterator[str]:
    mine, theirs = first.manifest, second.manifest
    for name in _OF_THE_HOST:
        if mine.host.get(name) != theirs.host.get(name):
            yield f"the host's {name.replace('_', ' ')}: {mine.host.get(name)} and {theirs.host.get(name)}"
    for name in _OF_THE_MODEL:
        if getattr(mine.model, name) != getattr(theirs.model, name):
            yield f"the model's {name.replace('_', ' ')}: {getattr(mine.model, name)} and {getattr(theirs.model, name)}"
    for what in ("topology", "concurrency", "workers", "replicas"):
        if getattr(mine, what) != getattr(theirs, what):
            yield f"{what}: {getattr(mine, what)} and {getattr(theirs, what)}"
    for what in ("placement", "network", "hosts"):
        if mine.details.get(what) != theirs.details.get(what):
            yield f"{what} differs"
    for which, campaign in (("first", first), ("second", second)):
        if contaminated := sum(len(cell.contaminated) for cell in campaign.cells.values()):
            yield f"{contaminated} blocks of the {which} campaign are contaminated"
