"""A report as a figure, by matplotlib, which is an extra: `pip install 'treni-route[plot]'`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime_svc.bench.record import Contender, Report, Run
from runtime_svc.bench.summary import Spread, spread
from runtime_svc.bench.table import bound_ms, heading, ms_per_token, tokens_per_s
from treni.errors import Code, TreniError

SUFFIXES = (".svg", ".png", ".pdf")


def figures_library() -> Any:
    """Matplotlib, drawing without a display. Raises FAILED_PRECONDITION when it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "plot_absent",
            expected="matplotlib, for --plot",
            got="none",
            todo="pip install 'treni-route[plot]', or give --json and draw it elsewhere with --show",
        ) from None
    matplotlib.use("agg")
    # Text stays text, and the same report gives the same file.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "treni-route", "font.size": 8}
    return matplotlib


def draw(report: Report, path: Path) -> None:
    """Writes a row of panels a run: decode beside its bound, TTFT, throughput, cold start by its parts."""
    figures_library()
    from matplotlib import pyplot

    rows = len(report.runs)
    figure, axes = pyplot.subplots(rows, 4, figsize=(16, 3.4 * rows), squeeze=False, layout="constrained")
    for run, (decode, ttft, batch, cold) in zip(report.runs, axes, strict=True):
        decode.set_title(heading(run), loc="left", fontsize=8)
        _decode(decode, run)
        _lines(ttft, run, "prompt tokens", "time to first token, ms", _ttft_points)
        _lines(batch, run, "sequences at once", "tokens/s", _batch_points)
        _cold(cold, run)
    dated = path.suffix == ".svg"
    figure.savefig(path, metadata={"Date": None} if dated else None)
    pyplot.close(figure)


def _decode(axes: Any, run: Run) -> None:
    for number, contender in enumerate(run.contenders):
        for times in (spread(ms_per_token(d)) for d in contender.decode if d.batch == 1):
            name, color = contender.name, f"C{number}"
            axes.errorbar(times.median, name, xerr=_whiskers([times]), marker="o", capsize=2, color=color)
            at, text = (times.median, name), f"{times.median:.3g}"
            axes.annotate(text, at, (0, 5), textcoords="offset points", ha="center")
    if (bound := bound_ms(run, 1, run.settings.decode_tokens)) is not None:
        axes.axvline(bound, color="black", linestyle="--")
        axes.annotate(f" bound {bound:.3g}", (bound, 0.98), xycoords=("data", "axes fraction"), va="top")
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.margins(0.15, 0.3)
    axes.invert_yaxis()
    axes.set_xlabel("decode at batch 1, ms/token")


def _ttft_points(contender: Contender) -> list[tuple[int, Spread]]:
    return [(t.prompt_tokens, spread([1e3 * s for s in t.seconds])) for t in contender.ttft]


def _batch_points(contender: Contender) -> list[tuple[int, Spread]]:
    return [(d.batch, spread(tokens_per_s(d))) for d in contender.decode]


def _lines(axes: Any, run: Run, across: str, up: str, points: Any) -> None:
    asked: set[int] = set()
    for number, contender in enumerate(run.contenders):
        if found := sorted(points(contender), key=lambda point: point[0]):
            at, spreads = [n for n, _ in found], [s for _, s in found]
            medians, look = [s.median for s in spreads], {"marker": "o", "capsize": 2, "color": f"C{number}"}
            axes.errorbar(at, medians, yerr=_whiskers(spreads), label=contender.name, **look)
            asked.update(at)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted(asked), [str(n) for n in sorted(asked)])
    _plain_numbers(axes.yaxis)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(fontsize=7)


def _cold(axes: Any, run: Run) -> None:
    found = [c for c in run.contenders if c.cold]
    names = [c.name for c in found]
    ready = [spread([cold.ready_s for cold in c.cold]).median for c in found]
    full = [spread([cold.full_s for cold in c.cold]).median for c in found]
    axes.barh(names, ready, label="start-up")
    axes.barh(names, full, left=ready, label=f"first answer, {run.settings.cold_tokens} tokens")
    axes.invert_yaxis()
    axes.set_xlabel("cold start, s")
    axes.margins(y=0.5 / max(len(found), 1))
    axes.legend(fontsize=7)


def _plain_numbers(axis: Any) -> None:
    """Instead of powers of ten: 1, 2, 5, 10, 20, ..."""

    def text(value: float, _position: int) -> str:
        return f"{value:g}" if f"{value:e}"[0] in "125" else ""

    axis.set_major_formatter(text)
    axis.set_minor_formatter(text)


def _whiskers(spreads: Any) -> list[list[float]]:
    return [[s.median - s.p10 for s in spreads], [s.p90 - s.median for s in spreads]]
