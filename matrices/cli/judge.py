"""`treni-route check` and `report`: what a campaign's folder says, judged again from its files."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from matrices.checks.check import Finding
from matrices.cli import output
from matrices.evidence.campaign import load_campaign
from matrices.evidence.history import History
from matrices.report.advice import reasons
from matrices.report.charts.drawing import refuse_undrawable
from matrices.report.figures import Figures, figures
from matrices.report.files import ExitStatus, differing, exit_status, summary, write_report
from matrices.report.sections.results import legend, results
from matrices.report.terminal import table_text
from treni import entry
from treni.errors import Code, TreniError

_SHOWN = 10

FOLDER = click.Path(path_type=Path)

_CHECK_EPILOG = """\b
Exit status: 0 nothing found; 1 something found, or an error; 2 usage."""

_REPORT_EPILOG = """\b
Exit status: 0 some profile has a verdict that is a safe claim; 1 the checker found something, or an error; 2 usage;
3 inconclusive: nothing is wrong, and nothing can be claimed."""


@entry.command(epilog=_CHECK_EPILOG)
@click.argument("folder", type=FOLDER)
@click.option("--digest", help="What `matrix` printed at its end: the files must be those of that campaign.")
@output.format_option
def check(folder: Path, digest: str | None, form: str) -> None:
    """Judge the history in FOLDER again, alone: plan against what happened. Prints one finding a line.

    Whoever can write the files can make a history that is consistent in itself; nobody can give it the digest of
    another, so keep the digest where the files are not.
    """
    result, history = _figures(folder)
    if digest is not None:
        _refuse_other_digest(digest, history)
    found = [*result.findings, *_differing(folder, result)]
    if form == "json":
        output.say_json(
            {
                "findings": [dataclasses.asdict(finding) for finding in found],
                "cells": len(result.cells),
                "digest": history.digest,
                "effects_not_counted": _uncounted(result),
            }
        )
    else:
        for finding in found:
            click.echo(str(finding))
        if uncounted := _uncounted(result):
            entry.note(f"effects not counted: {', '.join(uncounted)}")
        entry.note(f"{len(found)} findings in {len(result.cells)} cells")
        entry.note(f"digest: {history.digest}")
    sys.exit(ExitStatus.FINDINGS if found else ExitStatus.PASS)


@entry.command(epilog=_REPORT_EPILOG)
@click.argument("folder", type=FOLDER)
@click.option(
    "--html",
    is_flag=True,
    help="Also write FOLDER/report.html: one file with charts, which fetches nothing (needs the extra `report`).",
)
@click.option(
    "--figures",
    "drawn",
    is_flag=True,
    help="Also write every chart as SVG and PNG into FOLDER/figures (needs the extra `report`).",
)
@output.format_option
def report(folder: Path, html: bool, drawn: bool, form: str) -> None:
    """Rebuild every table of FOLDER from its manifest and history, byte for byte."""
    if html or drawn:
        refuse_undrawable()
    finish(folder, form, html=html, drawn=drawn)


def finish(folder: Path, form: str, *, html: bool = False, drawn: bool = False) -> NoReturn:
    """Writes the report, prints it, and ends the process with the campaign's exit status.

    With `html` its page is written too, with `drawn` every chart as a file.
    """
    result, history = _figures(folder)
    write_report(folder, result)
    more = _drawn(folder, result, html=html, drawn=drawn) if html or drawn else {}
    if form == "json":
        output.say_json({**_as_json(folder, result, history), **more})
        sys.exit(exit_status(result))
    output.say(table_text(results(result), legend(result), width=output.width()))
    if why_not := reasons(result):
        output.say(f"\n{why_not.replace('FOLDER', str(folder))}")
    for finding in result.findings[:_SHOWN]:
        entry.note(f"finding: {finding}")
    if len(result.findings) > _SHOWN:
        entry.note(f"... and {len(result.findings) - _SHOWN} more: treni-route check {folder}")
    made = "".join(f"{name}: {path}\n" for name, path in more.items())
    output.say(f"\nreport: {folder / 'summary.md'}\n{made}digest: {history.digest}\n")
    sys.exit(exit_status(result))


def _drawn(folder: Path, result: Figures, *, html: bool, drawn: bool) -> dict[str, str]:
    """Writes what was asked for of the page and the charts, and says where each is."""
    from matrices.report.page.files import write_figures, write_page  # what lays out pages, for nobody else

    return {
        **({"page": str(write_page(folder, result))} if html else {}),
        **({"figures": str(write_figures(folder, result))} if drawn else {}),
    }


def _as_json(folder: Path, result: Figures, history: History) -> dict[str, Any]:
    return {"folder": str(folder), "digest": history.digest, **summary(result)}


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


def _uncounted(result: Figures) -> list[str]:
    """The tools called whose effects no ledger counts."""
    return sorted({name for cell in result.cells for name in cell.uncounted})


def _refuse_other_digest(expected: str, history: History) -> None:
    if expected.strip().lower() != history.digest:
        raise TreniError(
            Code.DATA_LOSS,
            "digest_differs",
            expected=f"a history that ends with the digest {expected}",
            got=history.digest,
            todo="find the files that belong to that digest: these are others, or were changed",
            definite=True,
        )
