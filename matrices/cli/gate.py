"""`treni-route gate`: is a campaign a regression against another, or over a limit? The exit status says it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from matrices.cli import output
from matrices.evidence.agreement import refuse_other_plans
from matrices.evidence.campaign import load_campaign
from matrices.report.between import between
from matrices.report.figures import figures
from matrices.report.gate import MARGIN, Gated, GateVerdict, gate_between, gate_limits
from matrices.report.gate_formats import as_github, as_json, as_junit
from matrices.report.judged import judged_campaign
from treni import entry
from treni.storage import refuse_unwritable, write_whole

_FOLDER = click.Path(path_type=Path)
_HEADINGS = ("profile", "what", "arm", "verdict", "why")
_SHOWN = 10

_EPILOG = """\b
Examples:
  treni-route gate results/main results/mine
  treni-route gate results/main results/mine --margin 0.05 --junit gate.xml
  treni-route gate results/mine --max-ratio 1.3 --max-error-rate 0
  treni-route gate results/main results/mine --format github

\b
Exit status: 0 pass: shown to be within the margin (or limit); 4 regression: shown to be beyond it; 3 inconclusive:
neither is shown, run more blocks; 1 the checker found something in a campaign, or an error; 2 usage, or the plans are
not the same."""


@entry.command(epilog=_EPILOG)
@click.argument("first", type=_FOLDER, metavar="FOLDER")
@click.argument("second", type=_FOLDER, required=False, metavar="[SECOND]")
@click.option(
    "--margin",
    type=entry.FiniteRange(0, 10, min_open=True),
    help=f"The share by which the ratio of the arms may grow from FOLDER to SECOND.  [default: {MARGIN}]",
)
@click.option(
    "--latency",
    is_flag=True,
    help="Each arm's own latency decides too; for campaigns of one machine, one after the other.",
)
@click.option(
    "--max-ratio",
    type=entry.FiniteRange(0, min_open=True),
    help="Of FOLDER alone: the most that compared over baseline mean latency may be, in every profile.",
)
@click.option(
    "--max-error-rate",
    type=entry.FiniteRange(0, 1),
    help="Of FOLDER alone: the largest share of requests that may fail, on either arm of any profile.",
)
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the checks here, as JUnit XML."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "github"]),
    default="table",
    show_default=True,
    help="A table to be read, JSON for a script, or annotations for a workflow on GitHub.",
)
def gate(
    first: Path,
    second: Path | None,
    margin: float | None,
    latency: bool,
    max_ratio: float | None,
    max_error_rate: float | None,
    junit: Path | None,
    form: str,
) -> None:
    """Say whether the campaign in SECOND is a regression against the one in FOLDER, or FOLDER alone over a limit.

    Two campaigns of one plan: held against each other is the ratio of the arms, since no two campaigns share a
    machine's conditions, and the errors of each arm (docs/gate.md).
    """
    limits = max_ratio is not None or max_error_rate is not None
    if (second is None) != limits:
        raise click.UsageError(
            "expected two folders, or one with --max-ratio or --max-error-rate; "
            f"got {'two folders and a limit' if limits else 'one folder and no limit'}"
        )
    if second is None and (margin is not None or latency):
        raise click.UsageError("expected --margin and --latency with two folders; got them with one")
    if junit is not None:
        refuse_unwritable(junit)
    gated = (
        _limits(first, max_ratio, max_error_rate)
        if second is None
        else _against(first, second, MARGIN if margin is None else margin, latency)
    )
    if junit is not None:
        write_whole(junit, as_junit(gated))
    _print(gated, form)
    sys.exit(gated.status)


def _limits(folder: Path, max_ratio: float | None, max_error_rate: float | None) -> Gated:
    campaign, manifest, history = load_campaign(folder)
    result = figures(manifest, history.events, campaign.expectations)
    return gate_limits(result, max_ratio=max_ratio, max_error_rate=max_error_rate)


def _against(first: Path, second: Path, margin: float, latency: bool) -> Gated:
    before, after = load_campaign(first), load_campaign(second)
    refuse_other_plans(before[1], after[1])
    judged = [
        judged_campaign(manifest, history.events, campaign.expectations)
        for campaign, manifest, history in (before, after)
    ]
    findings = [
        f"{which}: {finding}"
        for which, one in zip(("first", "second"), judged, strict=True)
        for finding in one.findings
    ]
    return gate_between(between(*judged), margin=margin, latency=latency, findings=findings)


def _print(gated: Gated, form: str) -> None:
    if form == "json":
        output.say_json(as_json(gated))
        return
    if form == "github":
        output.say(as_github(gated))
        return
    rows = [(one.cell, one.what, one.arm, str(one.verdict), one.why) for one in gated.checks]
    output.say(output.table(_HEADINGS, rows))
    for note in gated.notes:
        output.say(f"\n{note}")
    output.say(f"\n\n{_closing(gated)}\n")
    for finding in gated.findings[:_SHOWN]:
        entry.note(f"finding: {finding}")
    if len(gated.findings) > _SHOWN:
        entry.note(f"... and {len(gated.findings) - _SHOWN} more: treni-route check names them")


def _closing(gated: Gated) -> str:
    if gated.findings:
        return f"The checker found {len(gated.findings)} things: no campaign passes with them."
    said = {verdict: sum(one.verdict is verdict for one in gated.checks) for verdict in GateVerdict}
    counts = ", ".join(f"{count} {verdict}" for verdict, count in said.items() if count)
    return f"{gated.verdict}: {counts or 'nothing to check'}"
