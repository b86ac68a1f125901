"""`make bench-gpu`: the real shapes with random weights, every peer that is there, on this machine's NVIDIA GPU.

Every part is a process with a time limit of its own, and what it measured is kept as it comes: a part that hangs
or fails costs its own figures and no others.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from runtime_svc.bench import machine, table
from runtime_svc.bench.process import PEERS, ROOTS
from runtime_svc.bench.record import Report
from runtime_svc.weights.hugging_face import read_config
from treni import entry
from treni.errors import Code, TreniError

SHAPES = {"qwen3-0.6b": 1.2, "qwen2.5-3b": 6.2, "qwen3-4b": 8.1}
"""Real shapes, and the gigabytes that a checkpoint of each takes in bfloat16."""

_WRITE = (
    "import sys; from pathlib import Path; from runtime_svc.weights.random_shards import write_random_shards; "
    "write_random_shards(Path(sys.argv[1]), sys.argv[2])"
)

_END_GRACE_S = 20.0

_SETTINGS = (
    "--backend=cupy",
    "--decode-context=128",
    "--decode-tokens=256",
    "--repeats=6",
    "--peer-repeats=3",
    "--cold-repeats=3",
    "--measure-limit-s=1",
    "--peer-limit-s=100",
    "--format=markdown",
)
"""A decode of a slow peer ends after a second: transformers eager makes some 16 tokens in it, enough for a mean."""


@entry.command(epilog="After --: more options for `bench runtime`.")
@click.option(
    "--shape",
    "shapes",
    type=click.Choice(list(SHAPES)),
    multiple=True,
    default=list(SHAPES),
    help="Again for more; default: all three.",
)
@click.option(
    "--scratch",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="For checkpoints, kept and used again; a memory-backed folder such as /dev/shm/bench is fastest; "
    "default: a temporary one.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=Path("docs/bench"),
    show_default=True,
    help="For the report.",
)
@click.option(
    "--peer",
    "peers",
    metavar="PEER",
    multiple=True,
    default=list(PEERS),
    help="Again for more; default: all that are Python packages.",
)
@click.option(
    "--peer-python",
    metavar="PATH",
    default=sys.executable,
    help="The interpreter of the peers; default: this one.",
)
@click.option(
    "--limit-s",
    type=entry.FiniteRange(0, 1e9, min_open=True),
    default=600.0,
    show_default=True,
    help="For everything.",
)
@click.argument("extra", metavar="[-- OPTION...]", nargs=-1)
def main(
    *,
    shapes: tuple[str, ...],
    folder: Path | None,
    out: Path,
    peers: tuple[str, ...],
    peer_python: str,
    limit_s: float,
    extra: tuple[str, ...],
) -> int:
    """Bench the real shapes with random weights on this machine's GPU, beside every peer present.

    The status is 0 when every shape was measured, 1 otherwise.
    """
    until_s = time.monotonic() + limit_s
    name = f"{_card()}-{datetime.now(UTC):%Y-%m-%d}"
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{name}.json"
    asked = [*_SETTINGS, "--peer-python", peer_python, *(f"--peer={peer}" for peer in peers), *extra]
    with _scratch(folder) as scratch:
        ready = _checkpoints(scratch, shapes, until_s)
        measured = []
        for number, shape in enumerate(ready):
            left_s = (until_s - time.monotonic()) / (len(ready) - number)
            if _measure(scratch, shape, asked, left_s, target):
                measured.append(shape)
    if target.exists():
        print(table.markdown(Report.read(target)), end="")
        _say(f"kept in {target} and {target.with_suffix('.md')}")
    if missing := [shape for shape in shapes if shape not in measured]:
        _say(f"not wholly measured: {', '.join(missing)}")
    return 1 if missing else 0


def merge(target: Path, part: Path) -> None:
    """Puts the runs of `part` into `target`, in place of runs of the same models, and writes its tables beside it."""
    found = Report.read(part).runs
    kept = Report.read(target).runs if target.exists() else []
    names = {run.model.name for run in found}
    order = list(SHAPES)
    runs = [run for run in kept if run.model.name not in names] + found
    runs.sort(key=lambda run: order.index(run.model.name) if run.model.name in order else len(order))
    report = Report(runs=runs)
    report.write(target)
    target.with_suffix(".md").write_text(table.markdown(report), encoding="utf-8")


def run_part(command: Sequence[str], limit_s: float, what: str) -> bool:
    """Runs a part until its limit, without its tables on stdout; whether it ended well. Says so when not."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}
    _say(f"{what} (at most {max(limit_s, 0):.0f} s)")
    began_s = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    ) as process:
        try:
            status = process.wait(max(limit_s, 0.0))
        except subprocess.TimeoutExpired:
            _end(process)
            _say(f"{what}: cut at its limit of {limit_s:.0f} s; what it had measured is kept")
            return False
        except BaseException:
            _end(process)
            raise
    if status != 0:
        _say(f"{what}: ended with status {status}; its messages are above")
    else:
        _say(f"{what}: {time.monotonic() - began_s:.0f} s")
    return status == 0


def _measure(scratch: Path, shape: str, asked: Sequence[str], limit_s: float, target: Path) -> bool:
    part = scratch / f"{shape}.report.json"
    part.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "runtime_svc.bench",
        "--model",
        str(scratch / shape),
        "--json",
        str(part),
    ]
    done = run_part([*command, *asked], limit_s, f"bench of {shape}")
    if part.exists():
        merge(target, part)
    return done


def _checkpoints(scratch: Path, shapes: Sequence[str], until_s: float) -> list[str]:
    """Writes those that are not there yet, side by side; the shapes that can be loaded."""
    wanted = [shape for shape in shapes if not (scratch / shape / "config.json").exists()]
    needed_gb, free_gb = sum(SHAPES[s] for s in wanted), shutil.disk_usage(scratch).free / 1e9
    if needed_gb > free_gb:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "scratch_full",
            expected=f"{needed_gb:.1f} GB free for checkpoints in {scratch}",
            got=f"{free_gb:.1f} GB",
            todo="give another folder as --scratch (make: SCRATCH=...), or fewer shapes",
        )
    _say(f"checkpoints in {scratch}: writing {', '.join(wanted) or 'none, all there'}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}
    writers = {}
    for shape in wanted:
        shutil.rmtree(scratch / shape, ignore_errors=True)
        command = [sys.executable, "-c", _WRITE, str(scratch / shape), shape]
        writers[shape] = subprocess.Popen(command, env=environment, start_new_session=True)
    for shape, writer in writers.items():
        try:
            writer.wait(max(until_s - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            _say(f"checkpoint {shape}: cut, no time left")
        finally:
            _end(writer)
    ready = []
    for shape in shapes:
        try:
            read_config(scratch / shape)
            ready.append(shape)
        except TreniError as error:
            _say(f"checkpoint {shape}: {error}")
    return ready


def _card() -> str:
    found = machine.gpu()
    if found is None:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "gpu_absent",
            expected="an NVIDIA GPU that nvidia-smi lists",
            got="none",
            todo="run it on such a machine; without one: treni-route bench runtime",
        )
    return re.sub(r"[^a-z0-9]+", "-", found.name.lower()).strip("-")


@contextlib.contextmanager
def _scratch(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="treni-bench-") as folder:
        yield Path(folder)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts the part, which then ends its own children; kills it when it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(prog_name="python -m runtime_svc.bench.gpu")
