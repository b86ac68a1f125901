"""summary.md: the table, then a section for each profile with everything behind its row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matrices.curves import drawing
from matrices.hops import NAMES
from matrices.report_figures import AA, ArmFigures, CellFigures, Figures
from matrices.report_tables import HEADINGS, cell_rows, ms, number, table_row
from matrices.statistics import Estimate
from matrices.verdicts import Verdict

MAX_LISTED = 20
"""How many findings or void pairs of one cell are written out; summary.json has them all."""


def markdown(figures: Figures) -> str:
    """The whole document."""
    parts = [
        _head(figures),
        _table(
            [" ".join(lines).strip() for lines in HEADINGS], [table_row(row) for row in cell_rows(figures)]
        ),
        _notes(figures),
    ]
    if figures.unplanned:
        parts.append("\n".join(f"* {finding}" for finding in figures.unplanned))
    parts += [f"```\n{drawing(curve)}```" for curve in figures.curves]
    parts += [_cell(figures, cell) for cell in figures.cells]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _head(figures: Figures) -> str:
    m = figures.manifest
    return (
        f"# treni-route, {m.created_utc}\n\n"
        f"Suite `{m.suite.name}`, {m.runs} runs, seed {m.seed}, concurrency {m.concurrency}, topology `{m.topology}`, "
        f"idempotency keys {'on' if m.idempotency else 'off'}. Model `{m.model.name}` on {m.model.backend} "
        f"({m.model.device}), checkpoint `{m.model.checkpoint_sha256[:12]}`. Commit `{m.commit[:12]}`."
    )


def _notes(figures: Figures) -> str:
    notes = [
        "Latency is the client's time to an outcome, answer or error; `ratio` is mean external over mean internal. "
        "Retries are per request that was answered. Faults are planned/delivered/observed over both arms. "
        "Intervals are CI95 with the run of the suite as the replicate; verdicts are corrected over all profiles "
        "together (Holm) and held against the floor. The interval of the A/A row is CI99: it gates the campaign.",
        _floor(figures),
    ]
    if any(cell.config.site == "hop" for cell in figures.cells):
        notes.append(
            "**Read this first.** These profiles fault the *hop* to the tools (or to the model), and the internal "
            "arm has no such hop: its zero errors are a property of the placement under that threat, not of "
            'better handling. The twins with `site = "tool"` (`p01t` to `p05t`) fault the tool itself in both arms '
            "alike, and are the fair control."
        )
    return "\n\n".join(notes)


def _floor(figures: Figures) -> str:
    if figures.floor is None:
        return "There is no noise floor: the A/A cell gives no interval. Every verdict is inconclusive."
    one = figures.floor.estimate
    return (
        f"Noise floor: the internal arm against itself differs by {_interval(one)} at "
        f"{one.confidence:.0%} confidence, so differences up to {ms(figures.floor.bound_s, 2)} ms are noise."
    )


def _interval(delta: Estimate) -> str:
    low, high = ms(delta.low, 2, sign=True), ms(delta.high, 2, sign=True)
    return f"{ms(delta.value, 2, sign=True)} ms [{low}, {high}]"


def sentence(figures: Figures, cell: CellFigures) -> str:
    """What the row says, in plain language."""
    first, second = cell.arms
    compared = cell.comparison
    if compared.delta is None or compared.ratio is None:
        return f"No estimate: {compared.unavailable}."
    if figures.floor is None:
        return f"The difference was {_interval(compared.delta)}; without a noise floor nothing can be said of it."
    floor = f"{ms(figures.floor.bound_s, 2)} ms"
    difference = _interval(compared.delta)
    ratio = compared.ratio
    times = f"{number(ratio.value, 3)} times [{number(ratio.low, 3)}, {number(ratio.high, 3)}]"
    if cell.config.name == AA:
        bias = "no bias" if figures.floor.unbiased else "**a bias of the harness**"
        return f"The internal arm against itself: {difference}, {bias}."
    errors = (
        f" Errors: {second.errors} of {second.requests} {second.arm} requests, "
        f"{first.errors} of {first.requests} {first.arm}."
    )
    says = {
        Verdict.EXTERNAL_SLOWER: f"External routing was slower: {times} the internal mean, {difference}, "
        f"beyond the floor of {floor}.",
        Verdict.EXTERNAL_FASTER: f"External routing was faster: {times} the internal mean, {difference}, "
        f"beyond the floor of {floor}.",
        Verdict.PARITY: f"Parity: the difference, {difference}, lies within the floor of {floor}.",
        Verdict.INCONCLUSIVE: f"The data do not support a verdict: the difference, {difference}, is neither "
        f"clearly beyond the floor of {floor} nor within it.",
    }
    return says[compared.verdict] + errors


def _cell(figures: Figures, cell: CellFigures) -> str:
    safe = "claim-safe" if cell.claim_safe else "exploratory"
    parts = [
        f"## {cell.config.profile}",
        f"{cell.config.title}. {sentence(figures, cell)} **{cell.comparison.verdict}, {safe}.**",
        cell.remark,
        "" if cell.complete else "**This cell did not run to its end.**",
        _latencies(cell),
        _faults_and_effects(cell),
        _hops(cell),
        _work(cell),
        _contaminated(cell),
        _void(cell),
        _gates(cell),
        _findings(cell),
    ]
    return "\n\n".join(part for part in parts if part)


def _by_arm(cell: CellFigures, name: str, rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    return _table([name, *(arm.arm for arm in cell.arms)], [[label, *texts] for label, texts in rows])


def _latencies(cell: CellFigures) -> str:
    def latency(arm: ArmFigures, part: str, *, success: bool = False) -> str:
        summary = arm.latency_success if success else arm.latency
        return "-" if summary is None else ms(getattr(summary, part)) or "-"

    rows: list[tuple[str, Sequence[str]]] = [
        ("answered", [f"{arm.successes} of {arm.requests}" for arm in cell.arms]),
        ("mean, all requests", [latency(arm, "mean_s") for arm in cell.arms]),
        ("median", [latency(arm, "p50_s") for arm in cell.arms]),
        ("p95", [latency(arm, "p95_s") for arm in cell.arms]),
        ("p99 (needs 300 requests)", [latency(arm, "p99_s") for arm in cell.arms]),
        ("mean, answered only", [latency(arm, "mean_s", success=True) for arm in cell.arms]),
        ("time per right answer", [ms(arm.cost_per_success_s) or "-" for arm in cell.arms]),
        ("attempts per right answer", [number(arm.attempts_per_success, 3) or "-" for arm in cell.arms]),
        ("time to first text, median", [ms(arm.ttft_p50_s) or "-" for arm in cell.arms]),
    ]
    lines = [_by_arm(cell, "latency, ms", rows)]
    compared, answered = cell.comparison, cell.successes
    if compared.median_delta_s is not None:
        lines.append(
            f"Median difference {ms(compared.median_delta_s, 2, sign=True)} ms over {compared.pairs} pairs. "
            + (
                f"Where both arms answered ({answered.pairs} pairs): {_interval(answered.delta)}, "
                f"ratio {number(answered.ratio.value, 3)}."
                if answered.delta is not None and answered.ratio is not None
                else f"Where both arms answered ({answered.pairs} pairs): {answered.unavailable}."
            )
        )
    return "\n\n".join(lines)


def _faults_and_effects(cell: CellFigures) -> str:
    arms = cell.arms
    rows: list[tuple[str, Sequence[str]]] = [
        ("faults planned", [str(len(arm.faults.planned)) for arm in arms]),
        ("faults delivered", [str(len(arm.faults.delivered)) for arm in arms]),
        ("faults observed", [str(len(arm.faults.observed)) for arm in arms]),
        ("ledger entries", [str(arm.effects.recorded) for arm in arms]),
        ("effects lost", [str(arm.effects.lost) for arm in arms]),
        ("effects duplicated", [str(arm.effects.duplicate) for arm in arms]),
        ("phantom effects", [str(arm.effects.phantom) for arm in arms]),
        (
            "of abandoned runs: faults, entries",
            [f"{arm.faults.superseded}, {arm.effects.superseded}" for arm in arms],
        ),
    ]
    return _by_arm(cell, "faults and effects", rows)


def _hops(cell: CellFigures) -> str:
    rows: list[tuple[str, Sequence[str]]] = [
        (
            name.replace("_", " "),
            ["-" if arm.hops is None else ms(getattr(arm.hops, name)) for arm in cell.arms],
        )
        for name in NAMES
    ]
    table = _by_arm(cell, "where the time went, mean ms", rows)
    without = {arm.arm: arm.without_record for arm in cell.arms if arm.without_record}
    if without:
        told = ", ".join(f"{count} {arm}" for arm, count in without.items())
        table += f"\n\nRequests without a record, in no part: {told}."
    return table


def _work(cell: CellFigures) -> str:
    names = tuple(cell.arms[0].work.__dataclass_fields__)
    rows = [(name.replace("_", " "), [str(getattr(arm.work, name)) for arm in cell.arms]) for name in names]
    return _by_arm(cell, "confound ledger, totals", rows)


def _contaminated(cell: CellFigures) -> str:
    if not cell.contaminated:
        return f"No contaminated block among {cell.blocks}."
    listed = "; ".join(f"block {block}: {why}" for block, why in cell.contaminated.items())
    clean = cell.without_contaminated
    figure = clean.unavailable if clean.delta is None else _interval(clean.delta)
    return f"Contaminated blocks: {listed}. Without them: {figure}, {clean.verdict}."


def _void(cell: CellFigures) -> str:
    if not cell.void:
        return f"No void pair among {cell.pairs}."
    return _listed("Void pairs:", [f"pair {pair}: {why}" for pair, why in cell.void.items()])


def _gates(cell: CellFigures) -> str:
    rows = [(gate.name, "passed" if gate.passed else "**failed**", gate.why) for gate in cell.gates]
    return _table(("gate", "", "why"), rows)


def _findings(cell: CellFigures) -> str:
    if not cell.findings:
        return "The checker found nothing."
    return _listed("The checker found:", [str(finding) for finding in cell.findings])


def _listed(head: str, lines: Sequence[str]) -> str:
    shown = [f"* {line}" for line in lines[:MAX_LISTED]]
    if len(lines) > MAX_LISTED:
        shown.append(f"* and {len(lines) - MAX_LISTED} more, in summary.json")
    return "\n".join([head, "", *shown])
