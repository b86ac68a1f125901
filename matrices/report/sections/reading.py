"""How the figures are to be read: what each means, the noise floor, and who is spared which faults."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Paragraph, Part, code, emphasis, paragraph, strong
from matrices.report.figures import BLACK_BOX, Figures
from matrices.report.formats import interval, ms
from matrices.report.judged import MIN_RESTARTS


def parts(figures: Figures) -> Iterator[Part]:
    """Paragraphs on latency and faults, on verdicts, on the floor, and one for each arm that is spared faults."""
    m, (baseline, compared) = figures.manifest, figures.sides
    replicate = (
        "group of blocks with processes of its own" if m.restarts >= MIN_RESTARTS else "run of the suite"
    )
    yield paragraph(
        "Latency is the client's time to an outcome, answer or error; ",
        code("ratio"),
        f" is mean {compared.name} over mean {baseline.name}. "
        "Retries are per request that was answered. Faults are planned/delivered/observed over both arms. "
        f"Intervals are CI95 with the {replicate} as the replicate, for this seed and schedule: backoffs with their "
        "jitter and timeouts of stalls are taken as planned. Verdicts are corrected over all planned profiles together "
        "(Holm). The interval of the A/A row is CI99: it gates the campaign.",
    )
    yield paragraph(
        "Two verdicts a row. Latency: slower or faster beyond the floor, or equivalent within the margin of "
        f"{m.margin:.0%} of the {baseline.name} mean, which was fixed before the run. Reliability: whether "
        f"{compared.name} fails more, less, or as often. The arm with more errors is never called faster unless the "
        "pairs that both arms answered say so too."
    )
    yield _floor(figures)
    spared = {arm: why for cell in figures.cells for arm, why in cell.spared.items()}
    for arm, why in spared.items():
        yield _spared(arm, why)


def _spared(arm: str, why: str) -> Paragraph:
    if why == BLACK_BOX:
        return paragraph(
            strong("Read this first."),
            f" Nobody sees into the {arm} arm: these profiles fault what the other arm calls, and what {arm} calls "
            "meets none of it. Its zero errors under them say nothing; faults of the client's call, ",
            code('hop = "agent"'),
            ", reach both alike.",
        )
    return paragraph(
        strong("Read this first."),
        " These profiles fault the ",
        emphasis("hop"),
        f" to the tools (or to the model), and the {arm} arm {why}: its zero errors are a property of the placement "
        "under that threat, not of better handling. The twins with ",
        code('site = "tool"'),
        " (",
        code("p01t"),
        " to ",
        code("p05t"),
        ") fault the tool itself in both arms alike, and are the fair control.",
    )


def _floor(figures: Figures) -> Paragraph:
    if figures.floor is None:
        return paragraph(
            "There is no noise floor: the A/A cell gives no interval. Every verdict is inconclusive."
        )
    one, baseline = figures.floor.estimate, figures.sides.baseline
    roles = sorted(baseline.roles)
    twice = f"on two {roles[0]}s" if len(roles) == 1 else f"in two sets of processes ({', '.join(roles)})"
    return paragraph(
        f"Noise floor: the {baseline.name} arm against itself, {twice}, differs by {interval(one)} at "
        f"{one.confidence:.0%} confidence, so differences up to {ms(figures.floor.bound_s, 2)} ms are noise."
    )
