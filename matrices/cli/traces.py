"""`treni-route traces`: where the time of traced requests went, and whether a span of theirs is missing."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from matrices.checks.traces import Gap, gaps
from matrices.cli import output
from matrices.evidence import events as ev
from matrices.evidence.history import read_history
from matrices.evidence.kept import HISTORY
from matrices.evidence.traces import TRACES, Trace, read_traces
from matrices.report.files import ExitStatus
from matrices.statistics.waterfall import Parts, Waterfall, parts_of, waterfall
from treni import entry

_SHOWN = 10
OTHERS = "other"
"""What traces are called that are none of a measured request's: warm-ups, and requests of others."""

_EPILOG = """\b
Examples:
  treni-route matrix p00 --trace                       writes results/.../traces
  treni-route traces results/20260101T000000Z          that campaign's, by arm
  treni-route traces /var/lib/treni/traces             any folder that was given to --trace

docs/traces.md says what the spans are, and what counts as unexplained.

\b
Exit status: 0 every trace is whole; 1 some lack a span, or an error; 2 usage."""


@entry.command(epilog=_EPILOG)
@click.argument("folder", type=click.Path(path_type=Path))
@output.format_option
def traces(folder: Path, form: str) -> None:
    """Say of the traces in FOLDER where their time went, what nothing explains, and which lack a span.

    FOLDER is a campaign's, whose requests are told by arm and held against its history, or one with files of traces.
    """
    history = folder / HISTORY
    outcomes = _outcomes(history) if history.is_file() else {}
    read = read_traces(folder / TRACES if outcomes else folder)
    arms = {arm: waterfall(apart) for arm, apart in sorted(_by_arm(read.by_id, outcomes).items()) if apart}
    lacking = list(gaps(read.by_id, frozenset(outcomes)))
    if form == "json":
        output.say_json(
            {
                "arms": {arm: dataclasses.asdict(one) for arm, one in arms.items()},
                "gaps": [dataclasses.asdict(one) for one in lacking],
                "torn": read.torn,
            }
        )
    else:
        for arm, one in arms.items():
            output.say(_told(arm, one))
        _note(lacking, read.torn)
    sys.exit(ExitStatus.FINDINGS if lacking else ExitStatus.PASS)


def _outcomes(history: Path) -> dict[str, ev.Outcome]:
    """The measured requests of the campaign by their run ids."""
    events = read_history(history).events
    return {event.run_id: event for event in events if isinstance(event, ev.Outcome)}


def _by_arm(by_id: Mapping[str, Trace], outcomes: Mapping[str, ev.Outcome]) -> dict[str, list[Parts]]:
    found: dict[str, list[Parts]] = {}
    for trace in by_id.values():
        outcome = outcomes.get(trace.run_id)
        parts = parts_of(trace, latency_s=None if outcome is None else outcome.latency_s)
        if parts is not None:
            found.setdefault(_arm(trace, outcome, bool(outcomes)), []).append(parts)
    return found


def _arm(trace: Trace, outcome: ev.Outcome | None, campaign: bool) -> str:
    if outcome is not None:
        return outcome.arm
    return OTHERS if campaign or trace.root is None else trace.root.name


def _told(arm: str, one: Waterfall) -> str:
    head = (
        f"{arm}: {one.traces} traces of {one.spans:.1f} spans, {one.whole_s * 1e3:.3f} ms each; unexplained "
        f"{one.unexplained:.2%} at the median, {one.most:.2%} at most\n"
    )
    rows = [
        (
            "  " * (len(row.path) - 1) + row.path[-1],
            row.service,
            f"{row.count:.2f}",
            f"{row.total_s * 1e3:.3f}",
            f"{row.own_s * 1e3:.3f}",
            f"{row.own_s / one.whole_s:.1%}",
        )
        for row in one.rows
    ]
    rest = (
        "(unexplained)",
        "",
        "",
        "",
        f"{one.unexplained_s * 1e3:.3f}",
        f"{one.unexplained_s / one.whole_s:.1%}",
    )
    headings = ("span", "service", "a trace", "in all ms", "own ms", "share")
    return head + output.table(headings, [*rows, rest], right={2, 3, 4, 5}) + "\n"


def _note(lacking: list[Gap], torn: int) -> None:
    for line in _shown(lacking):
        entry.note(line)
    if torn:
        entry.note(f"{torn} files end in half a line: their processes were killed")


def _shown(lacking: list[Gap]) -> Iterator[str]:
    yield from (str(gap) for gap in lacking[:_SHOWN])
    if len(lacking) > _SHOWN:
        yield f"... and {len(lacking) - _SHOWN} more, which --format json has"
