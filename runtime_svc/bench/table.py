"""A report as tables: for a terminal, and as Markdown."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_svc.bench.bounds import step_bytes
from runtime_svc.bench.record import Cold, Contender, Decode, Report, Run
from runtime_svc.bench.summary import Spread, quantile, spread

_WIDTH = 110
"""Characters in a line where stdout is no terminal."""

_LEAST_WIDTH = 80
"""Under that figures would be cut, so that a narrower terminal breaks the lines itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Text in columns; the first is a name, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(run: Run) -> list[Table]:
    """What the run found, a table a question; a figure that was not measured is "-"."""
    found = [_decode(run), _ttft(run), _throughput(run), _cold(run), _stages(run)]
    return [table for table in found if table.rows]


def ms_per_token(decode: Decode) -> list[float]:
    """Milliseconds between one token of a sequence and its next, an entry a repeat."""
    return [1e3 * s / n for s, n in zip(decode.seconds, decode.tokens, strict=True)]


def tokens_per_s(decode: Decode) -> list[float]:
    """Tokens a second over all sequences, an entry a repeat."""
    return [decode.batch * n / s for s, n in zip(decode.seconds, decode.tokens, strict=True)]


def bound_ms(run: Run, batch: int, tokens: int) -> float | None:
    """The least that a step can take, mean over `tokens` steps; None where no floor was measured.

    On a GPU, moving its bytes at the copy's rate; for NumPy at batch 1, the bare products.
    """
    if run.floors.copy_bytes_per_s:
        rate = quantile(run.floors.copy_bytes_per_s, 0.5)
        return 1e3 * step_bytes(run.model, run.settings, batch, tokens) / rate
    if run.floors.product_s and batch == 1:
        return 1e3 * quantile(run.floors.product_s, 0.5)
    return None


def heading(run: Run) -> str:
    """The model, the card or processor, and the versions, in a line."""
    gpu = run.machine.gpu if run.settings.backend == "cupy" else None
    device = run.machine.cpu if gpu is None else f"{gpu.name}, driver {gpu.driver}"
    rate = ""
    if run.floors.copy_bytes_per_s:
        rate = f"; copy {quantile(run.floors.copy_bytes_per_s, 0.5) / 1e9:,.1f} GB/s"
    threads = f", {run.settings.threads} thread(s)" if run.settings.backend == "numpy" else ""
    return f"{run.model.name} ({run.model.parameters:,} parameters), {run.settings.backend}{threads}, {device}{rate}"


def not_measured(run: Run) -> list[str]:
    """A line for every contender that is not wholly measured, with its reason."""
    return [f"{c.name}: {c.state}: {c.reason}" for c in run.contenders if c.state != "measured"]


def markdown(report: Report) -> str:
    """The whole report."""
    parts: list[str] = []
    for run in report.runs:
        parts += [f"## {heading(run)}", f"Measured {run.started}."]
        for table in tables(run):
            head = [_cells(table.columns), _cells(["---", *["---:"] * (len(table.columns) - 1)])]
            parts += [table.title + ":", "\n".join([*head, *map(_cells, table.rows)])]
        if missing := not_measured(run):
            parts.append("\n".join(f"* {line}" for line in missing))
    return "\n\n".join(parts) + "\n"


def terminal(report: Report) -> str:
    """The whole report, drawn."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn

    out = io.StringIO()
    width = max(_LEAST_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)
    console = Console(file=out, width=width, highlight=False)
    for run in report.runs:
        console.print(heading(run), markup=False)
        for table in tables(run):
            drawn = Drawn(title=table.title, box=box.SIMPLE_HEAD, title_justify="left", title_style="")
            for number, column in enumerate(table.columns):
                drawn.add_column(
                    column, justify="right" if number else "left", no_wrap=number > 0, overflow="fold"
                )
            for row in table.rows:
                drawn.add_row(*row)
            console.print(drawn)
        for line in not_measured(run):
            console.print(line, markup=False)
    return "\n".join(line.rstrip() for line in out.getvalue().removesuffix("\n").split("\n")) + "\n"


def _decode(run: Run) -> Table:
    s = run.settings
    measured = [(c, d) for c in run.contenders for d in c.decode if d.batch == 1]
    ours = _median_of(measured[0][1]) if measured and measured[0][0] is run.contenders[0] else None
    rows = []
    for contender, decode in measured:
        found = spread(ms_per_token(decode))
        bound = bound_ms(run, 1, round(quantile(decode.tokens, 0.5)))
        rows.append(
            (
                contender.name,
                f"{found.median:.3f}",
                f"[{found.p10:.3f}, {found.p90:.3f}]",
                "-" if bound is None else f"{bound / found.median:.1%}",
                "-" if ours is None else f"{found.median / ours:.2f}",
                _counted(decode.tokens),
            )
        )
    bound = bound_ms(run, 1, s.decode_tokens)
    if rows and bound is not None:
        what = "copying its bytes" if run.floors.copy_bytes_per_s else "NumPy's products"
        rows.append((f"bound: {what}", f"{bound:.3f}", "", "100.0%", "", ""))
        if run.floors.read_s:
            read = 1e3 * quantile(run.floors.read_s, 0.5)
            rows.append(("NumPy reading the weights", f"{read:.3f}", "", f"{bound / read:.1%}", "", ""))
    return Table(
        title=f"Decode at batch 1 from a context of {s.decode_context}",
        columns=("", "ms/token", "[p10, p90]", "of the bound", "x ours", "repeats x tokens"),
        rows=tuple(rows),
    )


def _ttft(run: Run) -> Table:
    lengths = run.settings.prompt_tokens
    rows = []
    for contender in run.contenders:
        found = {t.prompt_tokens: t for t in contender.ttft}
        if found:
            cells = [_ms(spread(found[n].seconds)) if n in found else "-" for n in lengths]
            rows.append((_with_counts(contender), *cells))
    columns = ("", *(f"{n} tokens, ms" for n in lengths))
    return Table(title="Time to the first token, median [p10, p90]", columns=columns, rows=tuple(rows))


def _throughput(run: Run) -> Table:
    batches = run.settings.batches
    least, most = batches[0], batches[-1]
    rows = []
    for contender in run.contenders:
        found = {d.batch: d for d in contender.decode}
        if found:
            rates = [f"{quantile(tokens_per_s(found[b]), 0.5):,.0f}" if b in found else "-" for b in batches]
            gain = [_gain(found.get(least), found.get(most))] if most > least else []
            rows.append((contender.name, *rates, *gain))
    gained = [f"{most} over {least}"] if most > least else []
    columns = ("", *(f"batch {b}" for b in batches), *gained)
    return Table(title="Decode throughput, tokens/s, median", columns=columns, rows=tuple(rows))


def _gain(least: Decode | None, most: Decode | None) -> str:
    """How many times the one's throughput the other's is; "-" where one of them is missing."""
    if least is None or most is None:
        return "-"
    return f"{quantile(tokens_per_s(most), 0.5) / quantile(tokens_per_s(least), 0.5):.2f}"


def _cold(run: Run) -> Table:
    rows = []
    for contender in run.contenders:
        if cold := contender.cold:
            rows.append(
                (
                    contender.name,
                    f"{_median(cold, 'ready_s'):.3f}",
                    f"{1e3 * _median(cold, 'ttft_s'):.1f}",
                    f"{1e3 * _median(cold, 'full_s'):.1f}",
                    f"{_median(cold, 'total_s'):.3f}",
                    f"{_median(cold, 'outside_s'):.3f}",
                    f"{len(cold)} x {cold[0].tokens}",
                )
            )
    return Table(
        title="Cold start from process start, page cache warm, median",
        columns=(
            "",
            "start-up s",
            "TTFT ms",
            "full ms",
            "cold total s",
            "to first token s",
            "starts x tokens",
        ),
        rows=tuple(rows),
    )


def _stages(run: Run) -> Table:
    cold = run.contenders[0].cold
    names = list(cold[0].stages) if cold else []
    values = [f"{1e3 * quantile([c.stages[name] for c in cold], 0.5):.1f}" for name in names]
    return Table(
        title="Our cold start by stage, ms, median",
        columns=("", *names),
        rows=((run.contenders[0].name, *values),) if names else (),
    )


def _median_of(decode: Decode) -> float:
    return quantile(ms_per_token(decode), 0.5)


def _median(cold: Sequence[Cold], name: str) -> float:
    return quantile([getattr(c, name) for c in cold], 0.5)


def _ms(found: Spread) -> str:
    return f"{1e3 * found.median:.2f} [{1e3 * found.p10:.2f}, {1e3 * found.p90:.2f}]"


def _counted(tokens: Sequence[int]) -> str:
    low, high = min(tokens), max(tokens)
    return f"{len(tokens)} x {low}" if low == high else f"{len(tokens)} x {low}..{high}"


def _with_counts(contender: Contender) -> str:
    """The name, with the prompt tokens that an endpoint counted where they are not those asked for."""
    counts = [t.counted for t in contender.ttft]
    if all(set(counted) == {t.prompt_tokens} for counted, t in zip(counts, contender.ttft, strict=True)):
        return contender.name
    told = ", ".join(f"{quantile(counted, 0.5):.0f}" for counted in counts)
    return f"{contender.name} (counted {told})"


def _cells(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"
