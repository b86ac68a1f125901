"""The command line of the bench: options to a plan, a report to files and stdout. Progress goes to stderr."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click

from runtime_svc.backends import BACKENDS
from runtime_svc.bench import plot, table
from runtime_svc.bench.process import PEERS
from runtime_svc.bench.record import Report, Run, Settings
from runtime_svc.bench.session import Plan, run
from treni import entry
from treni.storage import refuse_unwritable

BUNDLED = Path(__file__).parents[1] / "checkpoints" / "treni-tiny"

_EPILOG = """\b
Examples:
  treni-route bench runtime                                        the bundled model on the CPU, beside its floors
  treni-route bench runtime --model DIR --backend cupy --peer transformers --peer vllm --json out.json
  treni-route bench runtime --model DIR --peer http://127.0.0.1:8000/v1
  treni-route bench runtime --model DIR --peer 'http://127.0.0.1:8000/v1=vllm serve DIR --port 8000'
                                                                   the server is started here, and timed from there
  treni-route bench runtime --show out.json --plot out.svg         a report made elsewhere

\b
A peer that is not on this machine is listed as absent, with the reason. Exit status: 0 measured, 1 an error,
2 usage, 130 interrupted. docs/bench-runtime.md explains every figure."""


class _Counts(click.ParamType[Any]):
    """Whole numbers of at least 1, separated by commas, in order."""

    name = "N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The numbers; fails for anything else."""
        parts: list[Any] = value if isinstance(value, list) else str(value).split(",")
        return sorted({int(_COUNT.convert(part, param, ctx)) for part in parts})


class _Peer(click.ParamType[Any]):
    """A runtime that is known by name, or the URL of a server."""

    name = "PEER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The peer as it was given; fails for what is neither."""
        text = str(value)
        if text not in PEERS and not text.startswith(("http://", "https://")):
            self.fail(f"expected {', '.join(PEERS)} or a URL; got {text!r}", param, ctx)
        return text


_COUNT = entry.WholeRange(1, 2**31 - 1)
_SECONDS = entry.FiniteRange(0, 1e9, min_open=True)


@entry.command(epilog=_EPILOG)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=BUNDLED,
    help="A Hugging Face directory; default: the bundled model.",
)
@click.option(
    "--backend",
    type=click.Choice(sorted(BACKENDS)),
    default="numpy",
    show_default=True,
    help="Never swapped silently.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=_Peer(),
    help=f"Another runtime: {', '.join(PEERS)}, or an OpenAI-compatible URL; again for more.",
)
@click.option(
    "--peer-python",
    metavar="PATH",
    default=sys.executable,
    help="The interpreter that has torch, transformers or vllm; default: this one.",
)
@click.option(
    "--peer-model", metavar="NAME", help="What URLs are asked for; default: the first that they list."
)
@click.option(
    "--prompt-tokens", type=_Counts(), default="128,512,2048", show_default=True, help="Of prompts, for TTFT."
)
@click.option(
    "--decode-context", type=_COUNT, default=128, show_default=True, help="Tokens before decoding starts."
)
@click.option(
    "--decode-tokens", type=_COUNT, default=128, show_default=True, help="Tokens decoded in a repeat."
)
@click.option(
    "--batch", "batches", type=_Counts(), default="1,2,4,8", show_default=True, help="Sequences at once."
)
@click.option("--repeats", type=_COUNT, default=10, show_default=True, help="Rounds.")
@click.option(
    "--peer-repeats", type=_COUNT, default=3, show_default=True, help="Rounds that peers take part in."
)
@click.option(
    "--cold-repeats",
    type=_COUNT,
    default=5,
    show_default=True,
    help="Cold starts of this runtime; peers have one.",
)
@click.option(
    "--cold-tokens", type=_COUNT, default=48, show_default=True, help="Length of a cold start's answer."
)
@click.option(
    "--measure-limit-s", type=_SECONDS, default=10.0, show_default=True, help="One decode ends after this."
)
@click.option(
    "--peer-limit-s",
    type=_SECONDS,
    default=180.0,
    show_default=True,
    help="A peer is cut after this, in all.",
)
@click.option(
    "--threads", type=_COUNT, default=1, show_default=True, help="Of the CPU's linear algebra, for everyone."
)
@click.option(
    "--seed", type=entry.WholeRange(0, 2**32 - 1), default=0, show_default=True, help="Chooses the prompts."
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep every repeat, written anew after each round.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw it: .svg, .png or .pdf; needs matplotlib.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="Of what stdout gets.",
)
@click.option(
    "--show",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure nothing, print and draw this report.",
)
def main(
    *, show: Path | None, form: str, json_path: Path | None, plot_path: Path | None, **asked: Any
) -> None:
    """Measure the runtime beside the machine's bounds and other runtimes.

    Measured are decode, time to first token, throughput and cold start, on the same weights and token counts, in one
    run.
    """
    # Before minutes of measuring:
    if plot_path is not None:
        if plot_path.suffix not in plot.SUFFIXES:
            raise click.UsageError(
                f"--plot: expected a file named *{', *'.join(plot.SUFFIXES)}; got {plot_path}"
            )
        refuse_unwritable(plot_path)
        plot.figures_library()
    if json_path is not None:
        refuse_unwritable(json_path)
    report = Report.read(show) if show is not None else _measure(json_path, **asked)
    text = {"table": table.terminal, "markdown": table.markdown, "json": Report.to_json}[form](report)
    click.echo(text, nl=False)
    if plot_path is not None:
        plot.draw(report, plot_path)


def _measure(
    json_path: Path | None,
    *,
    model: Path,
    backend: str,
    peers: tuple[str, ...],
    peer_python: str,
    peer_model: str | None,
    repeats: int,
    peer_repeats: int,
    **asked: Any,
) -> Report:
    settings = Settings(
        backend=backend,
        element_bytes=BACKENDS[backend].element_bytes,
        repeats=repeats,
        peer_repeats=min(peer_repeats, repeats),
        **asked,
    )
    plan = Plan(
        directory=model,
        settings=settings,
        python=sys.executable,
        peer_python=peer_python,
        peers=peers,
        peer_model=peer_model,
    )

    # A shell's background jobs ignore it from birth; then nothing would end the contenders with this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def keep(current: Run) -> None:
        if json_path is not None:
            Report(runs=[current]).write(json_path)

    try:
        measured = asyncio.run(run(plan, keep=keep, say=entry.note))
    except KeyboardInterrupt:
        entry.note("what was measured is in the --json file, if one was given")
        raise
    return Report(runs=[measured])
