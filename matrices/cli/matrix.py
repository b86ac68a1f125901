"""`treni-route matrix`: plans a campaign, runs it, and reports."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from matrices.arms.registry import DEFAULT
from matrices.cli import output
from matrices.cli.asked import planned, refuse_beside_resume
from matrices.cli.campaign_file import take_file
from matrices.cli.metrics_options import metrics_options, scraped
from matrices.cli.outside_options import outside_options
from matrices.cli.termination import TERMINATED, Terminated, unless_terminated
from matrices.evidence.begun_with import refuse_other_versions
from matrices.evidence.campaign import MARGIN, Campaign, load_campaign
from matrices.evidence.manifest import Manifest
from matrices.evidence.outside import EndpointTold, refuse_other_endpoint
from matrices.evidence.traces import TRACES
from matrices.planning.beat import beat_sentence
from matrices.planning.plan_table import plan_rows, plan_table
from matrices.running.preflight import refuse_impossible
from matrices.topologies.hosts_file import MOST_REPLICAS
from matrices.topologies.registry import topology as topology_of
from runtime_svc.backends import BACKENDS
from tools_svc.sources import BUILTIN
from treni import entry
from treni.errors import Code, TreniError
from treni.storage import new_folder
from treni.trace_options import endpoint_option, traced_as_told

_EPILOG = """\b
Examples:
  treni-route matrix p00..p05              the six published profiles
  treni-route matrix p01t..p05t            the same faults at the tool itself: both arms meet them
  treni-route matrix p00,p04 --runs 3      a short one
  treni-route matrix mine.toml --suite chains
  treni-route matrix p01t --compare external:external   an arm with itself
  treni-route matrix p00 --suite mine.jsonl --tools mcp:"npx -y @modelcontextprotocol/server-filesystem /tmp/x"
  treni-route matrix r01 --fault-seeds 8 --set policy.retries=0..4
  treni-route matrix p00 --tasks my.jsonl --model-endpoint http://host:8000/v1 --model NAME
  treni-route matrix p00 --tasks my.jsonl --agent-command "python my_agent.py"
  treni-route matrix campaign.toml         all of it in one file
  treni-route matrix p00..p05 --live       watch the intervals narrow
  treni-route matrix --resume results/20260101T000000Z
  treni-route check results/20260101T000000Z

\b
Exit status: 0 some profile has a verdict that is a safe claim; 1 the checker found something (or an error); 2 usage;
3 inconclusive: nothing is wrong, and nothing can be claimed; 130 interrupted, 143 told to end by SIGTERM; 141
nobody reads stdout any more."""


@entry.command(epilog=_EPILOG)
@click.argument("profiles", required=False, is_eager=True, callback=take_file)
@click.option(
    "--suite", default="core", show_default=True, help="A bundled suite or a path to a .jsonl file."
)
@click.option(
    "--tasks",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own tasks instead, a .jsonl file: id, prompt and answer suffice (docs/tasks.md).",
)
@click.option(
    "--runs",
    type=entry.WholeRange(1, 1000),
    default=12,
    show_default=True,
    help="Runs of the suite (blocks).",
)
@click.option(
    "--seed",
    type=entry.WholeRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seeds backoff jitter and sampling.",
)
@click.option(
    "--topology",
    default="local",
    show_default=True,
    metavar="NAME|FILE.toml",
    help="Where the services run: local, ray[:ADDRESS], a file of hosts, or pilot:FILE.toml (docs/topologies.md).",
)
@click.option(
    "--network",
    "network",
    metavar="NAME|FILE.toml|HOP=NAME,...",
    help="Make hops as slow as this network (`treni-route networks`): emulated by the proxies of --topology local.",
)
@click.option(
    "--compare",
    metavar="BASELINE:COMPARED",
    default=":".join(DEFAULT.names),
    show_default=True,
    help="The two arms: internal, external, endpoint, agent or a package's; an arm with itself runs twice, in "
    "processes of its own. With --model-endpoint or an agent of your own: that arm against internal.",
)
@click.option(
    "--concurrency",
    type=entry.WholeRange(1, 256),
    default=1,
    show_default=True,
    help='Pairs at once; over 1 only for schedules by = "request".',
)
@click.option(
    "--controllers",
    type=entry.WholeRange(1, MOST_REPLICAS),
    default=1,
    show_default=True,
    help="Controllers that requests are spread over; a file of hosts lists its own.",
)
@click.option(
    "--tool-services",
    type=entry.WholeRange(1, MOST_REPLICAS),
    default=1,
    show_default=True,
    help="Tool services that each controller spreads its calls over; a file of hosts lists its own.",
)
@click.option(
    "--workers",
    type=entry.WholeRange(1, MOST_REPLICAS),
    default=1,
    show_default=True,
    help="Client processes that send the requests, at most --concurrency; the history has one writer all the same.",
)
@click.option(
    "--fault-seeds",
    type=entry.WholeRange(1, 1000),
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
    type=click.Choice(list(BACKENDS)),
    default="numpy",
    show_default=True,
    help="The engine's backend; never swapped silently.",
)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="A Hugging Face directory or a GGUF file; default: the bundled treni-tiny.",
)
@click.option(
    "--toxiproxy",
    metavar="HOST:PORT",
    help="Use this toxiproxy server instead of starting one for each cell.",
)
@click.option(
    "--margin",
    type=entry.FiniteRange(0, 1, min_open=True, max_open=True),
    default=MARGIN,
    show_default=True,
    help="Arms within this share of the baseline's mean latency are equivalent; fixed before the run.",
)
@click.option(
    "--restarts",
    type=entry.WholeRange(1, 1000),
    default=1,
    show_default=True,
    help="Groups of blocks with fresh processes; from 3 on, the group is the replicate.",
)
@click.option(
    "--tools",
    "sources",
    metavar="builtin|file:TOOL.py|mcp:COMMAND|mcp:URL",
    multiple=True,
    default=BUILTIN,
    show_default=True,
    help="Where tools come from: ours, a Python file, or an MCP server, which each role with tools runs; repeatable.",
)
@outside_options
@click.option("--no-idempotency", is_flag=True, help="Send no idempotency keys, to see what that costs.")
@click.option(
    "--no-fencing",
    is_flag=True,
    help="Let services take calls of a session that is not theirs, to see what a stale server does.",
)
@click.option(
    "--constrain-calls",
    is_flag=True,
    help="Hold the model's tool calls to their schemas as they are decoded, in both arms (docs/constrained.md).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where the campaign's folder is made.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help="Go on with this campaign's folder, as it was asked for when it began: refuses other options.",
)
@metrics_options
@click.option(
    "--trace",
    is_flag=True,
    help="Write traces of every request as OTLP JSON lines, a file for each process, to traces/ in the campaign's "
    "folder (docs/traces.md). Needs treni-route[trace].",
)
@endpoint_option
@click.option("--dry-run", is_flag=True, help="Print the cells and what the schedule predicts, run nothing.")
@click.option("--live", is_flag=True, help="On a terminal: the table as it fills in, faults ahead, errors.")
@output.format_option
@click.pass_context
def matrix(
    context: click.Context,
    /,
    form: str,
    resume: Path | None,
    dry_run: bool,
    live: bool,
    metrics_port: int | None,
    metrics_targets: Path | None,
    trace: bool,
    trace_endpoint: str | None,
    **asked: Any,
) -> None:
    """Run PROFILES (such as p00..p05) on both arms, pair by pair, and report.

    PROFILES is a comma-separated list of names, ranges and paths to .toml files; `treni-route profiles` lists
    the bundled ones. Or it is a campaign's file, such as campaign.toml: the profiles and every option in it
    (docs/tasks.md); an option that is given beside it counts instead. An A/A cell, the baseline against itself,
    always runs first: it is the noise floor.
    """
    if resume is not None:
        refuse_beside_resume(context)
        campaign, begun, _ = load_campaign(resume)
        refuse_other_versions(begun)
    else:
        campaign, begun = planned(context, **asked), None
    refuse_impossible(campaign)
    topology_of(campaign.options.topology, campaign.options.placement).refuse(campaign)
    if dry_run:
        _print_plan(campaign, form)
        return
    # What runs and judges a campaign takes longer to import than all else: not for help, plans and refusals.
    from matrices.cli.judge import finish
    from matrices.running.asking import ask_outside

    told = asyncio.run(ask_outside(campaign))
    if begun is not None:
        refuse_other_endpoint(begun, told)
    with scraped(metrics_port, metrics_targets):
        if resume is None:
            # Made before anything is measured: a campaign that could not be written down is not begun.
            folder = new_folder(campaign.folder.parent, campaign.folder.name)
            campaign = dataclasses.replace(campaign, folder=folder)
        path = campaign.folder / TRACES if trace else None
        with traced_as_told("client", path=path, endpoint=trace_endpoint or ""):
            _run(campaign, begun, told, live=live)
    finish(campaign.folder, form)


def _print_plan(campaign: Campaign, form: str) -> None:
    if form == "json":
        output.say_json({"cells": plan_rows(campaign.cells)})
        return
    output.say(plan_table(campaign.cells))
    for cell in campaign.cells:
        for beat in filter(None, (beat_sentence(cell, arm) for arm in reversed(cell.arms))):
            entry.note(f"{cell.name}: {beat}")


def _run(campaign: Campaign, begun: Manifest | None, told: EndpointTold | None, *, live: bool) -> None:
    """Runs a new campaign, or what is left of the one that `begun` describes."""
    from matrices.cli.live import progress_of
    from matrices.running.runner import Runner

    go_on = f"go on with: treni-route matrix --resume {campaign.folder}"
    pairs = sum(len(cell.pairs) for cell in campaign.cells)
    with progress_of(
        live=live,
        pairs=pairs,
        expectations=campaign.expectations,
        margin=campaign.options.margin,
        restarts=campaign.options.restarts,
    ) as progress:
        runner = Runner(campaign, progress, None if begun is None else begun.model, told)
        try:
            asyncio.run(unless_terminated(runner.run() if begun is None else runner.resume()))
        except BaseException as error:
            if _can_go_on(campaign, entry.cause(error)):
                entry.note(go_on)
            if isinstance(error, Terminated):
                sys.exit(TERMINATED)
            raise
    for cell, detail in runner.broken.items():
        entry.note(f"{cell} broke: {detail}; {go_on}")


def _can_go_on(campaign: Campaign, error: BaseException) -> bool:
    """Whether the campaign was cut short, rather than refused, where there is something to go on with."""
    refused = isinstance(error, TreniError) and error.code in (
        Code.INVALID_ARGUMENT,
        Code.FAILED_PRECONDITION,
        Code.DATA_LOSS,
    )
    return not refused and campaign.history_path.exists()
