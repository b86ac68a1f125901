"""A campaign judged: what the checker found of each cell, and the pairs that count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from matrices.checks.check import CellJudgement, Finding, check
from matrices.evidence.events import Event, Sealed
from matrices.evidence.manifest import Manifest
from matrices.planning.expectation import Expectation
from matrices.report.comparison import CellSamples, samples_of
from matrices.statistics.selection import SELECTIVE_LEVEL, void_selective_p

MIN_RESTARTS = 2
"""The number of segments from which on the segment, and not the block, is the replicate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedCampaign:
    """Judgements, expectations and samples by cell, in the manifest's order.

    `unplanned` is what is held against the campaign and none of its cells.
    """

    manifest: Manifest
    events: tuple[Event, ...]
    expected: Mapping[str, Expectation]
    cells: Mapping[str, CellJudgement]
    samples: Mapping[str, CellSamples]
    unplanned: tuple[Finding, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything the checker holds against the campaign."""
        return (*self.unplanned, *(finding for cell in self.cells.values() for finding in cell.findings))

    @property
    def by_segment(self) -> bool:
        """Whether the replicate is the segment."""
        return self.manifest.restarts >= MIN_RESTARTS


def judged_campaign(
    manifest: Manifest, events: Iterable[Event], expectations: Sequence[Expectation]
) -> JudgedCampaign:
    """The campaign, judged. Pure; raises `TreniError` for a record in the history that is not one."""
    events = tuple(events)
    expected = {expectation.cell: expectation for expectation in expectations}
    judged = {judgement.cell: judgement for judgement in check(manifest, events, expectations)}
    mine = {cell.name: judged.pop(cell.name) for cell in manifest.cells}
    by_segment = manifest.restarts >= MIN_RESTARTS
    samples = {name: samples_of(one, expected[name], by_segment=by_segment) for name, one in mine.items()}
    unplanned = tuple(finding for one in judged.values() for finding in one.findings)
    if not events or not isinstance(events[-1], Sealed):
        detail = "interrupted; resume it"
        unplanned += (Finding(kind="campaign_unsealed", cell="", detail=detail),)
    return JudgedCampaign(
        manifest=manifest,
        events=events,
        expected=expected,
        cells={name: _with_selection(one, samples[name]) for name, one in mine.items()},
        samples=samples,
        unplanned=unplanned,
    )


def _with_selection(judged: CellJudgement, samples: CellSamples) -> CellJudgement:
    """The judgement, with a finding where void pairs are those in which one arm was slow, or quick."""
    p_value = void_selective_p(samples.void, samples.valid)
    if p_value >= SELECTIVE_LEVEL:
        return judged
    detail = f"{len(samples.void)} void pairs took other times than the rest: p {p_value:.2g} by chance"
    finding = Finding(kind="void_selective", cell=judged.cell, detail=detail)
    return replace(judged, findings=(*judged.findings, finding))
