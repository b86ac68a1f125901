"""What may be said of a cell, in plain language."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.comparison import AA
from matrices.report.document import Paragraph, Part, paragraph, strong
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import interval, ms, number
from matrices.statistics.verdicts import Floor, Verdict


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A paragraph with title, sentence and verdicts; what must be known of the schedule; whether the cell ended."""
    safe = "claim-safe" if cell.claim_safe else "exploratory"
    verdicts = cell.verdict if cell.config.name == AA else f"{cell.verdict}; {cell.reliability_verdict}"
    said = sentence(figures, cell)
    yield paragraph(f"{cell.config.title}. ", *said.words, " ", strong(f"{verdicts}; {safe}."))
    if cell.remark:
        yield paragraph(cell.remark)
    if not cell.complete:
        yield paragraph(strong("This cell did not run to its end."))


def sentence(figures: Figures, cell: CellFigures) -> Paragraph:
    """What the row says."""
    compared = cell.comparison
    if compared.delta is None or compared.ratio is None:
        return paragraph(f"No estimate: {compared.unavailable}.")
    difference = interval(compared.delta)
    if figures.floor is None:
        return paragraph(f"The difference was {difference}; without a noise floor nothing can be said of it.")
    if cell.config.name == AA:
        bias = "no bias" if figures.floor.unbiased else strong("a bias of the harness")
        return paragraph(f"The {cell.sides.baseline.name} arm against itself: {difference}, ", bias, ".")
    return paragraph(f"{_of_latency(figures.floor, cell)} {_of_errors(cell)}")


def _of_latency(floor: Floor, cell: CellFigures) -> str:
    compared = cell.comparison
    assert compared.delta is not None
    assert compared.ratio is not None
    difference, bound = interval(compared.delta), f"{ms(floor.bound_s, 2)} ms"
    margin = f"{ms(compared.margin_s, 2)} ms"
    ratio = compared.ratio
    baseline, routing = cell.sides.baseline.name, cell.sides.compared.routing
    times = f"{number(ratio.value, 3)} times [{number(ratio.low, 3)}, {number(ratio.high, 3)}] the {baseline} mean"
    beyond = f"{times}, {difference}, beyond the floor of {bound}."
    says = {
        Verdict.SLOWER: f"{_capital(routing)} was slower: {beyond}",
        Verdict.FASTER: f"{_capital(routing)} was faster: {beyond}",
        Verdict.EQUIVALENT: f"Equivalent: the difference, {difference}, lies within the margin of {margin}"
        + (", and is not zero." if not compared.delta.contains(0.0) else "."),
        Verdict.INCONCLUSIVE: f"The data do not support a verdict on latency: the difference, {difference}, is neither "
        f"clearly beyond the floor of {bound} nor shown to lie within the margin of {margin}.",
    }
    if compared.judgement.held_back:
        both = cell.successes.delta
        return (
            f"Over all requests {routing} would be called {compared.judgement.leaning} ({difference}), "
            "but the arm that gains fails more, and the pairs that both arms answered do not say the same"
            + (": there are none." if both is None else f" ({interval(both)}).")
        )
    return says[compared.verdict] + _of_successes(cell)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _of_successes(cell: CellFigures) -> str:
    """That the pairs which both arms answered say the opposite, where they do."""
    every, both = cell.comparison.delta, cell.successes.delta
    if every is None or both is None or every.value * both.value >= 0:
        return ""
    return f" Where both arms answered, the sign is the other: {interval(both)}."


def _of_errors(cell: CellFigures) -> str:
    first, second = cell.arms
    counts = (
        f"Errors: {second.errors} of {second.requests} {second.arm} requests, "
        f"{first.errors} of {first.requests} {first.arm}"
    )
    rates = cell.reliability.rates
    if rates is None or rates.baseline_errors == rates.compared_errors:
        return f"{counts}."
    low, high = number(rates.low * 100, 1, sign=True), number(rates.high * 100, 1, sign=True)
    return (
        f"{counts}, {number(rates.value * 100, 1, sign=True)} points [{low}, {high}] for requests like these: "
        f"{cell.reliability_verdict}."
    )
