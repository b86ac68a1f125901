"""The command line of the bench: options to a plan, a report to files and stdout. Progress goes to stderr."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_svc.backends import BACKENDS
from runtime_svc.bench import plot, table
from runtime_svc.bench.process import PEERS
from runtime_svc.bench.record import Report, Run, Settings
from runtime_svc.bench.session import Plan, run
from treni.errors import Code, TreniError

BUNDLED = Path(__file__).parents[1] / "checkpoints" / "treni-tiny"

_EPILOG = """\
examples:
  treni-route bench runtime                                        the bundled model on the CPU, beside its floors
  treni-route bench runtime --model DIR --backend cupy --peer transformers --peer vllm --json out.json
  treni-route bench runtime --model DIR --peer http://127.0.0.1:8000/v1
  treni-route bench runtime --model DIR --peer 'http://127.0.0.1:8000/v1=vllm serve DIR --port 8000'
                                                                   the server is started here, and timed from there
  treni-route bench runtime --show out.json --plot out.svg         a report made elsewhere

A peer that is not on this machine is listed as absent, with the reason. Exit status: 0 measured, 1 an error,
2 usage. docs/bench-runtime.md explains every figure."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.plot is not None:
            if options.plot.suffix not in plot.SUFFIXES:
                parser.error(
                    f"--plot: expected a file named *{', *'.join(plot.SUFFIXES)}; got {options.plot}"
                )
            plot.figures_library()  # before minutes of measuring
        report = Report.read(options.show) if options.show is not None else _measure(options)
        print(table.terminal(report) if options.format == "table" else table.markdown(report), end="")
        if options.plot is not None:
            plot.draw(report, options.plot)
    except TreniError as error:
        print(f"treni-route: {error}", file=sys.stderr)
        return 2 if error.code is Code.INVALID_ARGUMENT else 1
    except KeyboardInterrupt:
        print("interrupted; what was measured is in the --json file, if one was given", file=sys.stderr)
        return 130
    return 0


def _measure(options: argparse.Namespace) -> Report:
    settings = Settings(
        backend=options.backend,
        element_bytes=BACKENDS[options.backend].element_bytes,
        threads=options.threads,
        prompt_tokens=options.prompt_tokens,
        decode_context=options.decode_context,
        decode_tokens=options.decode_tokens,
        batches=options.batch,
        repeats=options.repeats,
        peer_repeats=min(options.peer_repeats, options.repeats),
        cold_repeats=options.cold_repeats,
        cold_tokens=options.cold_tokens,
        measure_limit_s=options.measure_limit_s,
        peer_limit_s=options.peer_limit_s,
        seed=options.seed,
    )
    plan = Plan(
        directory=options.model,
        settings=settings,
        python=sys.executable,
        peer_python=options.peer_python,
        peers=tuple(options.peer),
        peer_model=options.peer_model,
    )

    # A shell's background jobs ignore it from birth; then nothing would end the contenders with this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def keep(current: Run) -> None:
        if options.json is not None:
            Report(runs=[current]).write(options.json)

    measured = asyncio.run(run(plan, keep=keep, say=lambda line: print(line, file=sys.stderr, flush=True)))
    return Report(runs=[measured])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="treni-route bench runtime",
        description="Measure the runtime's decode, time to first token, throughput and cold start, beside the\n"
        "machine's bounds and other runtimes, on the same weights and token counts, in one run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        metavar="PATH",
        default=BUNDLED,
        help="a Hugging Face directory or a GGUF file (the bundled model)",
    )
    add("--backend", choices=sorted(BACKENDS), default="numpy", help="never swapped silently (numpy)")
    add(
        "--peer",
        action="append",
        default=[],
        type=_peer,
        metavar="PEER",
        help=f"another runtime: {', '.join(PEERS)}, or an OpenAI-compatible URL; again for more",
    )
    add(
        "--peer-python",
        metavar="PATH",
        default=sys.executable,
        help="the interpreter that has torch, transformers or vllm (this one)",
    )
    add("--peer-model", metavar="NAME", help="what URLs are asked for (the first model that they list)")
    add(
        "--prompt-tokens",
        type=_counts,
        metavar="N,N",
        default=[128, 512, 2048],
        help="for TTFT (128,512,2048)",
    )
    add("--decode-context", type=_count, metavar="N", default=128, help="tokens before decoding starts (128)")
    add("--decode-tokens", type=_count, metavar="N", default=128, help="tokens decoded in a repeat (128)")
    add("--batch", type=_counts, metavar="N,N", default=[1, 2, 4, 8], help="sequences at once (1,2,4,8)")
    add("--repeats", type=_count, metavar="N", default=10, help="rounds (10)")
    add("--peer-repeats", type=_count, metavar="N", default=3, help="rounds that peers take part in (3)")
    add(
        "--cold-repeats",
        type=_count,
        metavar="N",
        default=5,
        help="cold starts of this runtime (5); peers have one",
    )
    add("--cold-tokens", type=_count, metavar="N", default=48, help="length of a cold start's answer (48)")
    add("--measure-limit-s", type=_seconds, metavar="S", default=10.0, help="one decode ends after this (10)")
    add(
        "--peer-limit-s",
        type=_seconds,
        metavar="S",
        default=180.0,
        help="a peer is cut after this, in all (180)",
    )
    add(
        "--threads", type=_count, metavar="N", default=1, help="of the CPU's linear algebra, for everyone (1)"
    )
    add("--seed", type=int, metavar="N", default=0, help="chooses the prompts (0)")
    add("--json", type=Path, metavar="FILE", help="keep every repeat, written anew after each round")
    add("--plot", type=Path, metavar="FILE", help="draw it: .svg, .png or .pdf; needs matplotlib")
    add("--format", choices=["table", "markdown"], default="table", help="of what stdout gets (table)")
    add("--show", type=Path, metavar="FILE", help="measure nothing, print and draw this report")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1; got {value}")
    return value


def _counts(text: str) -> list[int]:
    return sorted({_count(part) for part in text.split(",")})


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds; got {text}")
    return value


def _peer(text: str) -> str:
    if text not in PEERS and not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"expected {', '.join(PEERS)} or a URL; got {text!r}")
    return text
