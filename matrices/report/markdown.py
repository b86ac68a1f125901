"""summary.md: the table, then a section for each profile with everything behind its row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matrices.evidence.hops import NAMES
from matrices.report.comparison import AA
from matrices.report.curves import drawing
from matrices.report.figures import MIN_RESTARTS, ArmFigures, CellFigures, Figures
from matrices.report.tables import cell_rows, headings, ms, number, table_row
from matrices.statistics.estimates import Estimate
from matrices.statistics.reliability import CostPerSuccess
from matrices.statistics.verdicts import Floor, Verdict

MAX_LISTED = 20
"""How many findings or void pairs of one cell are written out; summary.json has them all."""


def markdown(figures: Figures) -> str:
    """The whole document."""
    parts = [
        _head(figures),
        _table(
            [" ".join(lines).strip() for lines in headings(figures.sides)],
            [[cell.replace("\n", " ") for cell in table_row(row)] for row in cell_rows(figures)],
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
    under = f" under each of {m.fault_seeds} fault seeds" if m.fault_seeds > 1 else ""
    under += f" in {m.restarts} groups with processes of their own" if m.restarts > 1 else ""
    return (
        f"# treni-route, {m.created_utc}\n\n"
        f"Suite `{m.suite.name}`, {m.runs} runs{under}, seed {m.seed}, concurrency {m.concurrency}, "
        f"topology `{m.topology}`, "
        f"idempotency keys {'on' if m.idempotency else 'off'}. Model `{m.model.name}` on {m.model.backend} "
        f"({m.model.device}), checkpoint `{m.model.checkpoint_sha256[:12]}`. Commit `{m.commit[:12]}`."
    )


def _notes(figures: Figures) -> str:
    m, (baseline, compared) = figures.manifest, figures.sides
    replicate = (
        "group of blocks with processes of its own" if m.restarts >= MIN_RESTARTS else "run of the suite"
    )
    notes = [
        "Latency is the client's time to an outcome, answer or error; `ratio` is mean "
        f"{compared.name} over mean {baseline.name}. "
        "Retries are per request that was answered. Faults are planned/delivered/observed over both arms. "
        f"Intervals are CI95 with the {replicate} as the replicate, for this seed and schedule: backoffs with their "
        "jitter and timeouts of stalls are taken as planned. Verdicts are corrected over all planned profiles together "
        "(Holm). The interval of the A/A row is CI99: it gates the campaign.",
        "Two verdicts a row. Latency: slower or faster beyond the floor, or equivalent within the margin of "
        f"{m.margin:.0%} of the {baseline.name} mean, which was fixed before the run. Reliability: whether "
        f"{compared.name} fails "
        "more, less, or as often. The arm with more errors is never called faster unless the pairs that both arms "
        "answered say so too.",
        _floor(figures),
    ]
    spared = {arm: why for cell in figures.cells for arm, why in cell.spared.items()}
    notes += [
        f"**Read this first.** These profiles fault the *hop* to the tools (or to the model), and the {arm} "
        f"arm {why}: its zero errors are a property of the placement under that threat, not of "
        'better handling. The twins with `site = "tool"` (`p01t` to `p05t`) fault the tool itself in both arms '
        "alike, and are the fair control."
        for arm, why in spared.items()
    ]
    return "\n\n".join(notes)


def _doubled(figures: Figures) -> str:
    """What of the baseline there is twice in the A/A cell, in words."""
    roles = sorted(figures.sides.baseline.roles)
    return f"on two {roles[0]}s" if len(roles) == 1 else f"in two sets of processes ({', '.join(roles)})"


def _floor(figures: Figures) -> str:
    if figures.floor is None:
        return "There is no noise floor: the A/A cell gives no interval. Every verdict is inconclusive."
    one, baseline = figures.floor.estimate, figures.sides.baseline.name
    return (
        f"Noise floor: the {baseline} arm against itself, {_doubled(figures)}, differs by {_interval(one)} at "
        f"{one.confidence:.0%} confidence, so differences up to {ms(figures.floor.bound_s, 2)} ms are noise."
    )


def _interval(delta: Estimate) -> str:
    low, high = ms(delta.low, 2, sign=True), ms(delta.high, 2, sign=True)
    return f"{ms(delta.value, 2, sign=True)} ms [{low}, {high}]"


def sentence(figures: Figures, cell: CellFigures) -> str:
    """What the row says, in plain language."""
    compared = cell.comparison
    if compared.delta is None or compared.ratio is None:
        return f"No estimate: {compared.unavailable}."
    if figures.floor is None:
        return f"The difference was {_interval(compared.delta)}; without a noise floor nothing can be said of it."
    difference = _interval(compared.delta)
    if cell.config.name == AA:
        bias = "no bias" if figures.floor.unbiased else "**a bias of the harness**"
        return f"The {cell.sides.baseline.name} arm against itself: {difference}, {bias}."
    return " ".join(part for part in (_of_latency(figures.floor, cell), _of_errors(cell)) if part)


def _of_latency(floor: Floor, cell: CellFigures) -> str:
    compared = cell.comparison
    assert compared.delta is not None
    assert compared.ratio is not None
    difference, bound = _interval(compared.delta), f"{ms(floor.bound_s, 2)} ms"
    margin = f"{ms(compared.margin_s, 2)} ms"
    ratio = compared.ratio
    baseline, routing = cell.sides.baseline.name, cell.sides.compared.routing
    times = f"{number(ratio.value, 3)} times [{number(ratio.low, 3)}, {number(ratio.high, 3)}] the {baseline} mean"
    says = {
        Verdict.SLOWER: f"{_capital(routing)} was slower: {times}, {difference}, beyond the floor of {bound}.",
        Verdict.FASTER: f"{_capital(routing)} was faster: {times}, {difference}, beyond the floor of {bound}.",
        Verdict.EQUIVALENT: f"Equivalent: the difference, {difference}, lies within the margin of {margin}"
        + (", and is not zero." if not compared.delta.contains(0.0) else "."),
        Verdict.INCONCLUSIVE: f"The data do not support a verdict on latency: the difference, {difference}, is neither "
        f"clearly beyond the floor of {bound} nor shown to lie within the margin of {margin}.",
    }
    if compared.judgement.held_back:
        return (
            f"Over all requests {routing} would be called {compared.judgement.leaning} ({difference}), "
            "but the arm that gains fails more, and the pairs that both arms answered do not say the same"
            + (
                f" ({_interval(cell.successes.delta)})."
                if cell.successes.delta is not None
                else ": there are none."
            )
        )
    return says[compared.verdict] + _of_successes(cell)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _of_successes(cell: CellFigures) -> str:
    """That the pairs which both arms answered say the opposite, where they do."""
    every, both = cell.comparison.delta, cell.successes.delta
    if every is None or both is None or every.value * both.value >= 0:
        return ""
    return f" Where both arms answered, the sign is the other: {_interval(both)}."


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


def _cell(figures: Figures, cell: CellFigures) -> str:
    safe = "claim-safe" if cell.claim_safe else "exploratory"
    parts = [
        f"## {cell.config.profile}",
        f"{cell.config.title}. {sentence(figures, cell)} **{_verdicts(cell)}; {safe}.**",
        cell.remark,
        "" if cell.complete else "**This cell did not run to its end.**",
        _latencies(cell),
        _accuracy(cell) if figures.examines else "",
        _faults_and_effects(cell),
        _harm(cell),
        _hops(cell),
        _work(cell),
        _contaminated(cell),
        _void(cell),
        _gates(cell),
        _findings(cell),
    ]
    return "\n\n".join(part for part in parts if part)


def _verdicts(cell: CellFigures) -> str:
    if cell.config.name == AA:
        return cell.verdict
    return f"{cell.verdict}; {cell.reliability_verdict}"


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
        ("time per right answer", [_cost(arm.time_per_success, 1e3) for arm in cell.arms]),
        ("attempts per right answer", [_cost(arm.attempts_per_success) for arm in cell.arms]),
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


def _accuracy(cell: CellFigures) -> str:
    said = (
        f"{arm.correct} of {arm.successes} {arm.arm}"
        + ("" if arm.accuracy is None else f" ({number(arm.accuracy * 100, 1)} %)")
        for arm in cell.arms
    )
    return f"Right answers, of those given: {', '.join(said)}."


def _cost(cost: CostPerSuccess | None, scale: float = 1.0) -> str:
    if cost is None:
        return "-"
    low, high = max(0.0, cost.low * scale), cost.high * scale
    return f"{number(cost.value * scale, 3)} [{number(low, 3)}, {number(high, 3)}]"


def _harm(cell: CellFigures) -> str:
    if not cell.harm:
        return ""
    rows = [
        ("faults that broke a host", [str(row.faults) for row in cell.harm]),
        ("recovery, median s", [number(row.recovery_median_s, 3) or "-" for row in cell.harm]),
        ("recovery, longest s", [number(row.recovery_max_s, 3) or "-" for row in cell.harm]),
        (
            "longest outage by role, s",
            [
                ", ".join(f"{role} {number(out_s, 3)}" for role, out_s in sorted(row.roles.items())) or "-"
                for row in cell.harm
            ],
        ),
        ("other requests in flight then", [str(row.in_flight) for row in cell.harm]),
        ("of these, hurt", [str(row.hurt) for row in cell.harm]),
        ("host grew by, MiB", [number(row.host_grown_mb, 1) or "-" for row in cell.harm]),
    ]
    return _by_arm(cell, "who else was hurt", rows)


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
    return f"Contaminated blocks: {listed}. Without them: {figure}, {cell.said(clean)}."


def _void(cell: CellFigures) -> str:
    again = f" Cut off by an interruption and run again: {cell.abandoned} pairs." if cell.abandoned else ""
    if not cell.void:
        return f"No void pair among {cell.pairs}.{again}"
    return again.lstrip() + _listed("Void pairs:", [f"pair {pair}: {why}" for pair, why in cell.void.items()])


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
