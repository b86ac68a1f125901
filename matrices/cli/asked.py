"""The campaign that the options of `treni-route matrix` ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from click.core import ParameterSource

from matrices.arms.parts import Replicas
from matrices.cli.campaign_file import BESIDE, folder_of
from matrices.cli.outside_options import agent_asked, comparison_asked, endpoint_asked
from matrices.evidence.campaign import Campaign, Options, plan_campaign
from matrices.spec.networks import parse_networks
from matrices.spec.profiles import select_profiles
from matrices.spec.sweeps import expand, parse_setting
from matrices.spec.tooling import tooling_of
from matrices.topologies.registry import chosen, replicas


def refuse_beside_resume(context: click.Context) -> None:
    """Raises a usage error for options beside --resume, but those that say how a campaign is dealt with."""
    given = [
        parameter
        for parameter in context.command.params
        if parameter.name not in BESIDE
        and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        and parameter.expose_value
    ]
    if given:
        names = ", ".join(
            one.opts[0] if isinstance(one, click.Option) else one.human_readable_name for one in given
        )
        raise click.UsageError(
            f"expected --resume alone: a campaign goes on as it was asked for when it began; got {names} too; "
            "leave that out, or start another campaign",
            context,
        )


def planned(
    context: click.Context,
    *,
    profiles: str | None,
    suite: str,
    tasks: Path | None,
    runs: int,
    seed: int,
    topology: str,
    network: str | None,
    compare: str,
    concurrency: int,
    controllers: int,
    tool_services: int,
    workers: int,
    fault_seeds: int,
    settings: tuple[str, ...],
    backend: str,
    model_dir: Path | None,
    toxiproxy: str | None,
    margin: float,
    restarts: int,
    sources: tuple[str, ...],
    no_idempotency: bool,
    no_fencing: bool,
    constrain_calls: bool,
    out: Path,
    model_endpoint: str | None,
    model_name: str | None,
    model_key_env: str | None,
    model_parameters: tuple[str, ...],
    model_omit: tuple[str, ...],
    agent_url: str | None,
    agent_command: str | None,
    agent_key_env: str | None,
) -> Campaign:
    """The campaign that was asked for, in a folder that is not made yet."""
    if profiles is None:
        raise click.UsageError("name the profiles to run, such as p00..p05, or --resume a folder")
    cells, sweep = expand(select_profiles(profiles), [parse_setting(text) for text in settings])
    name, placement = chosen(topology)
    endpoint, model_dir = endpoint_asked(
        model_endpoint=model_endpoint,
        model_name=model_name,
        model=model_dir,
        model_key_env=model_key_env,
        model_parameters=model_parameters,
        model_omit=model_omit,
    )
    own_agent = agent_asked(
        agent_url=agent_url,
        agent_command=agent_command,
        agent_key_env=agent_key_env,
        folder=folder_of(context),
    )
    options = Options(
        suite=_suite(context, suite, tasks),
        runs=runs,
        seed=seed,
        concurrency=concurrency,
        topology=name,
        placement=placement,
        networks={} if network is None else parse_networks(network),
        backend=backend,
        model_dir=None if model_dir is None else str(model_dir.resolve()),
        idempotency=not no_idempotency,
        fencing=not no_fencing,
        constrain_calls=constrain_calls,
        margin=margin,
        restarts=restarts,
        toxiproxy=toxiproxy,
        comparison=comparison_asked(
            compare, chosen=_is_given(context, "compare"), endpoint=endpoint, agent=own_agent
        ),
        endpoint=endpoint,
        own_agent=own_agent,
        fault_seeds=fault_seeds,
        sweep=sweep,
        workers=workers,
        tooling=tooling_of(sources),
        replicas=replicas(name, placement, Replicas(controllers=controllers, tool_services=tool_services)),
    )
    return plan_campaign(out / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), options, cells)


def _suite(context: click.Context, suite: str, tasks: Path | None) -> str:
    """The suite that was asked for, by one of two names; on the command line either counts over the file's."""
    by_hand = ParameterSource.COMMANDLINE
    if tasks is None or (
        context.get_parameter_source("suite") is by_hand
        and context.get_parameter_source("tasks") is not by_hand
    ):
        return suite
    if _is_given(context, "suite") and context.get_parameter_source("suite") is context.get_parameter_source(
        "tasks"
    ):
        raise click.UsageError("expected --suite or --tasks; got both; leave one out", context)
    if tasks.suffix != ".jsonl":
        raise click.UsageError(f"expected --tasks FILE.jsonl; got {tasks}; rename it", context)
    return str(tasks)


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT
