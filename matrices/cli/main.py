"""The `treni-route` command: verbs. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from matrices.checks.check import Finding
from matrices.cli import doctor as doctor_module
from matrices.cli.bench_command import bench
from matrices.cli.compare_command import compare
from matrices.cli.make_checkpoint import make_checkpoint
from matrices.command_line import bundled_checkpoint, errors
from matrices.evidence.campaign import MARGIN, Campaign, Options, load_campaign, plan_campaign
from matrices.evidence.history import History
from matrices.planning.beat import beat_sentence
from matrices.planning.plan_table import plan_table
from matrices.report.figures import Figures, figures
from matrices.report.files import ExitStatus, differing, exit_status, write_report
from matrices.report.tables import table_text
from matrices.running.preflight import refuse_impossible
from matrices.running.runner import Runner
from matrices.simulation.command import main as simulate
from matrices.spec.profiles import bundled_profiles, select_profiles
from matrices.spec.suites import bundled_suites, load_suite
from matrices.spec.sweeps import expand, parse_setting
from treni.errors import Code, TreniError

_EPILOG = """\b
Examples:
  treni-route matrix p00..p05              the six published profiles
  treni-route matrix p01t..p05t            the same faults at the tool itself: both arms meet them
  treni-route matrix p00,p04 --runs 3      a short one
  treni-route matrix mine.toml --suite chains
  treni-route matrix r01 --fault-seeds 8 --set policy.retries=0..4
  treni-route matrix --resume results/20260101T000000Z
  treni-route check results/20260101T000000Z

\b
Exit status: 0 some profile has a verdict that is a safe claim; 1 the checker found something (or an error); 2 usage;
3 inconclusive: nothing is wrong, and nothing can be claimed."""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="treni-route")
def main() -> None:
    """Measure where an LLM agent's routing should live: inside the inference process, or outside it."""


@main.command(epilog=_EPILOG)
@click.argument("profiles", required=False)
@click.option(
    "--suite", default="core", show_default=True, help="A bundled suite or a path to a .jsonl file."
)
@click.option(
    "--runs", type=click.IntRange(1, 1000), default=12, show_default=True, help="Runs of the suite (blocks)."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seeds backoff jitter and sampling.",
)
@click.option(
    "--topology",
    type=click.Choice(["local"]),
    default="local",
    show_default=True,
    help="Where the services run.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help='Pairs at once; over 1 only for schedules by = "request".',
)
@click.option(
    "--fault-seeds",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help='Schedules that each cell pools, --runs blocks each; over 1 only for schedules by = "request".',
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUES",
    multiple=True,
    help="Run each profile once for each value, such as policy.retries=0..4; repeatable, for every combination.",
)
@click.option(
    "--backend",
    type=click.Choice(["numpy", "cupy"]),
    default="numpy",
    show_default=True,
    help="The engine's backend; never swapped silently.",
)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="A Hugging Face directory; default: the bundled treni-tiny.",
)
@click.option(
    "--toxiproxy",
    metavar="HOST:PORT",
    help="Use this toxiproxy server instead of starting one for each cell.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=MARGIN,
    show_default=True,
    help="Arms within this share of the baseline's mean latency are equivalent; fixed before the run.",
)
@click.option(
    "--restarts",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Groups of blocks with fresh processes; from 3 on, the group is the replicate.",
)
@click.option("--no-idempotency", is_flag=True, help="Send no idempotency keys, to see what that costs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Where the campaign's folder is made.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path, file_okay=False),
    help="Go on with this campaign's folder; takes no other option.",
)
@click.option("--dry-run", is_flag=True, help="Print the cells and what the schedule predicts, run nothing.")
def matrix(
    profiles: str | None,
    suite: str,
    runs: int,
    seed: int,
    topology: str,
    concurrency: int,
    fault_seeds: int,
    settings: tuple[str, ...],
    backend: str,
    model_dir: Path | None,
    toxiproxy: str | None,
    margin: float,
    restarts: int,
    no_idempotency: bool,
    out: Path,
    resume: Path | None,
    dry_run: bool,
) -> None:
    """Run PROFILES (such as p00..p05) on both arms, pair by pair, and report.

    PROFILES is a comma-separated list of names, ranges and paths to .toml files; `treni-route profiles` lists
    the bundled ones. An A/A cell, the internal arm against itself, always runs first: it is the noise floor.
    """
    with errors():
        if resume is not None:
            campaign, _, _ = load_campaign(resume)
        elif profiles is None:
            raise click.UsageError("name the profiles to run, such as p00..p05, or --resume a folder")
        else:
            folder = out / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            cells, sweep = expand(select_profiles(profiles), [parse_setting(text) for text in settings])
            options = Options(
                suite=suite,
                runs=runs,
                seed=seed,
                concurrency=concurrency,
                topology=topology,
                backend=backend,
                model_dir=None if model_dir is None else str(model_dir.resolve()),
                idempotency=not no_idempotency,
                margin=margin,
                restarts=restarts,
                toxiproxy=toxiproxy,
                fault_seeds=fault_seeds,
                sweep=sweep,
            )
            campaign = plan_campaign(folder, options, cells)
        refuse_impossible(campaign)
        if dry_run:
            click.echo(plan_table(campaign.cells), nl=False)
            for cell in campaign.cells:
                if beat := beat_sentence(cell, cell.arms[1]):
                    click.echo(f"{cell.name}: {beat}", err=True)
            return
        _run(campaign, resumed=resume is not None)
        _finish(campaign.folder)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--digest", help="What `matrix` printed at its end: the files must be those of that campaign.")
def check(folder: Path, digest: str | None) -> None:
    """Judge the history in FOLDER again, alone: plan against what happened. Prints one finding a line.

    Whoever can write the files can make a history that is consistent in itself; nobody can give it the digest of
    another, so keep the digest where the files are not.
    """
    with errors():
        result, history = _figures(folder)
        if digest is not None:
            _same_digest(digest, history)
        found = [*result.findings, *_differing(folder, result)]
    for finding in found:
        click.echo(str(finding))
    click.echo(f"{len(found)} findings in {len(result.cells)} cells", err=True)
    click.echo(f"digest: {history.digest}", err=True)
    sys.exit(ExitStatus.FINDINGS if found else ExitStatus.PASS)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def report(folder: Path) -> None:
    """Rebuild every table of FOLDER from its manifest and history, byte for byte."""
    with errors():
        _finish(folder)


@main.command()
@click.option("--validate", is_flag=True, help="Only say whether every bundled profile and suite is valid.")
def profiles(validate: bool) -> None:
    """List the bundled failure profiles."""
    with errors():
        bundled = bundled_profiles()
        suites = [load_suite(name) for name in bundled_suites()]
    if validate:
        click.echo(f"{len(bundled)} profiles and {len(suites)} suites are valid", err=True)
        return
    for profile in bundled.values():
        click.echo(f"{profile.short:6}{profile.name:34}{profile.title}")


@main.command()
def doctor() -> None:
    """Say what is present and what is missing on this machine, and what to do about it."""
    with errors():
        checks = doctor_module.examine(bundled_checkpoint())
    for item in checks:
        click.echo(f"{item.state:8}{item.name:22}{item.detail}")
    if any(item.state == "missing" for item in checks):
        sys.exit(1)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("service", type=click.Choice(["runtime", "controller", "tools"]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(service: str, arguments: tuple[str, ...]) -> None:
    """Serve one SERVICE by itself until it is interrupted; `treni-route serve SERVICE --help` has its options."""
    module = {"runtime": "runtime_svc", "controller": "controller", "tools": "tools_svc"}[service]
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


main.add_command(simulate, name="simulate")
main.add_command(make_checkpoint)
main.add_command(bench)
main.add_command(compare)


class _Progress:
    """Progress on stderr: a bar for each cell on a terminal, a line for each cell elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def cell(self, name: str, pairs: int, done: int) -> None:
        """A cell begins."""
        self._tasks[name] = self._bar.add_task(name, total=pairs, completed=done)
        if not self._console.is_terminal:
            click.echo(f"{name}: {pairs} pairs" + (f", {done} done before" if done else ""), err=True)

    def pair(self, name: str) -> None:
        """A pair is complete."""
        self._bar.advance(self._tasks[name])


def _run(campaign: Campaign, *, resumed: bool) -> None:
    with _Progress() as progress:
        runner = Runner(campaign, progress)
        try:
            asyncio.run(runner.resume() if resumed else runner.run())
        except KeyboardInterrupt:
            if campaign.history_path.exists():
                click.echo(
                    f"interrupted; go on with: treni-route matrix --resume {campaign.folder}", err=True
                )
            sys.exit(130)


def _figures(folder: Path) -> tuple[Figures, History]:
    campaign, manifest, history = load_campaign(folder)
    return figures(manifest, history.events, campaign.expectations), history


def _differing(folder: Path, result: Figures) -> list[Finding]:
    return [
        Finding(
            kind="report_differs",
            cell="",
            detail=f"{name} is not what the history gives: it was changed, or another version wrote it; "
            "`treni-route report` makes it again",
        )
        for name in differing(folder, result)
    ]


def _same_digest(expected: str, history: History) -> None:
    if expected.strip().lower() != history.digest:
        raise TreniError(
            Code.DATA_LOSS,
            "digest_differs",
            expected=f"a history that ends with the digest {expected}",
            got=history.digest,
            todo="find the files that belong to that digest: these are others, or were changed",
            definite=True,
        )


def _finish(folder: Path) -> None:
    """Writes the report, prints the table, and ends the process with the campaign's exit status."""
    result, history = _figures(folder)
    write_report(folder, result)
    click.echo(table_text(result), nl=False)
    for finding in result.findings[:10]:
        click.echo(f"finding: {finding}", err=True)
    if len(result.findings) > 10:
        click.echo(f"... and {len(result.findings) - 10} more findings", err=True)
    click.echo(f"report: {folder / 'summary.md'}")
    click.echo(f"digest: {history.digest}")
    sys.exit(exit_status(result))
