"""What came out, a sentence a profile, for who has to decide and not to measure."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.comparison import AA
from matrices.report.document import Listing, Part
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import ms, number
from matrices.statistics.verdicts import Verdict


def parts(figures: Figures) -> Iterator[Part]:
    """A listing with an item for each cell."""
    yield Listing(
        lead="", items=tuple(f"{cell.config.name}: {said(figures, cell)}" for cell in figures.cells)
    )


def said(figures: Figures, cell: CellFigures) -> str:
    """The sentence of one cell, without its name."""
    compared, baseline = cell.sides.compared, cell.sides.baseline
    if cell.config.name == AA:
        if figures.floor is None:
            return "the noise of the measurement is not known, so nothing below can be judged."
        return (
            f"measured against itself, the {baseline.name} arm differs by up to "
            f"{ms(figures.floor.bound_s, 2)} ms; what is smaller than that means nothing."
        )
    latency = cell.comparison
    if latency.ratio is None:
        return "too little was measured to say anything."
    means = [arm.latency.mean_s for arm in cell.arms if arm.latency is not None]
    times = f"{ms(means[1], 1)} ms instead of {ms(means[0], 1)} ms" if len(means) == 2 else "of unknown means"
    ratio = number(latency.ratio.value, 2)
    says = {
        Verdict.SLOWER: f"with {compared.routing}, a request takes {ratio} times as long as with the {baseline.name} "
        f"arm ({times})",
        Verdict.FASTER: f"with {compared.routing}, a request takes {ratio} times as long, that is less, as with the "
        f"{baseline.name} arm ({times})",
        Verdict.EQUIVALENT: f"{compared.routing} is as fast as the {baseline.name} arm, to within "
        f"{figures.manifest.margin:.0%} ({times})",
        Verdict.INCONCLUSIVE: f"whether {compared.routing} is slower or faster cannot be told from these data "
        f"({times})",
    }
    sure = (
        "All checks passed: it can be relied on."
        if cell.claim_safe
        else "Not every check passed: take it as a hint, not as a result."
    )
    return f"{says[latency.verdict]}; {_errors(cell.arms)}. {sure}"


def _errors(arms: tuple[ArmFigures, ...]) -> str:
    first, second = arms
    if first.errors == second.errors == 0:
        return "no request failed in either arm"
    return (
        f"{second.errors} of {second.requests} requests failed in the {second.arm} arm, "
        f"{first.errors} of {first.requests} in the {first.arm} arm"
    )
