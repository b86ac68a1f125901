"""The options of `treni-route matrix` for what is outside: an endpoint's model, and an agent of the user's own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from matrices.arms.arm import Comparison
from matrices.arms.endpoint import ENDPOINT
from matrices.arms.own_agent import OWN_AGENT
from matrices.arms.registry import DEFAULT, comparison_of, parse_comparison
from matrices.spec.outside import AgentSpec, EndpointSpec, checked_url, endpoint_spec
from tools_svc.suggest import clip
from treni.errors import invalid_argument

OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--model-endpoint",
        metavar="URL",
        help="The OpenAI-compatible endpoint of the arm `endpoint`, such as http://host:8000/v1.",
    ),
    click.option(
        "--model-name",
        metavar="NAME",
        help="The model's name at --model-endpoint; where no such model lies here, --model NAME says it too.",
    ),
    click.option(
        "--model-key-env",
        metavar="VARIABLE",
        help="The environment variable that holds the endpoint's key; the key itself is never written anywhere.",
    ),
    click.option(
        "--model-parameter",
        "model_parameters",
        metavar="KEY=JSON",
        multiple=True,
        help="Put this into each request to the endpoint, such as reasoning_effort=low; repeatable.",
    ),
    click.option(
        "--model-omit",
        metavar="KEY",
        multiple=True,
        help="Leave this out of each request: for an endpoint that takes no seed, temperature, ...; repeatable.",
    ),
    click.option(
        "--agent-url",
        metavar="URL",
        help="Where the arm `agent`, your own, takes a task by POST (docs/agents.md).",
    ),
    click.option(
        "--agent-command",
        metavar="COMMAND",
        help="Or the command that it is: a line of JSON a task on stdin, lines of JSON on stdout.",
    ),
    click.option(
        "--agent-key-env",
        metavar="VARIABLE",
        help="The environment variable that holds the key for --agent-url.",
    ),
)


def outside_options(command: Any) -> Any:
    """Adds the options to a command, in their order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def endpoint_asked(
    *,
    model_endpoint: str | None,
    model_name: str | None,
    model: Path | None,
    model_key_env: str | None,
    model_parameters: tuple[str, ...],
    model_omit: tuple[str, ...],
) -> tuple[EndpointSpec | None, Path | None]:
    """The endpoint that was asked for, None for none, and the model of our own engine that is left of `--model`.

    Raises INVALID_ARGUMENT for options that do not go together.
    """
    if model_endpoint is None:
        given = {
            "--model-name": model_name,
            "--model-key-env": model_key_env,
            "--model-parameter": model_parameters,
            "--model-omit": model_omit,
        }
        if lone := [option for option, value in given.items() if value]:
            raise _unused(", ".join(lone), "--model-endpoint URL beside it")
        return None, model
    if model_name is None and model is not None and not model.exists():
        model_name, model = str(model), None
    spec = endpoint_spec(
        url=model_endpoint,
        model=model_name or "",
        key_env=model_key_env or "",
        parameters=dict(map(_parameter, model_parameters)),
        omit=model_omit,
    )
    return spec, model


def agent_asked(
    *, agent_url: str | None, agent_command: str | None, agent_key_env: str | None, folder: Path
) -> AgentSpec | None:
    """The agent of the user's own that was asked for, its command to be run in `folder`; None for none.

    Raises INVALID_ARGUMENT for options that do not go together.
    """
    if agent_url is not None and agent_command is not None:
        raise _unused("--agent-url and --agent-command", "one of them")
    if agent_key_env and agent_url is None:
        raise _unused("--agent-key-env", "--agent-url URL beside it")
    if agent_url is not None:
        return AgentSpec(url=checked_url("--agent-url", agent_url), key_env=agent_key_env or "")
    if agent_command is None:
        return None
    try:
        words = tuple(shlex.split(agent_command))
    except ValueError as error:
        words, agent_command = (), f"{agent_command} ({error})"
    if not words:
        raise invalid_argument(
            "agent_unstartable",
            expected="--agent-command: a command such as 'python my_agent.py'",
            got=repr(clip(agent_command)),
            todo="correct it",
        )
    return AgentSpec(command=words, folder=str(folder.resolve()))


def comparison_asked(
    compare: str, *, chosen: bool, endpoint: EndpointSpec | None, agent: AgentSpec | None
) -> Comparison:
    """The arms to compare: those that were `chosen`, else those that what is outside is there for.

    Raises INVALID_ARGUMENT for an arm without what it is made of, and for what no arm is made of.
    """
    comparison = parse_comparison(compare)
    outside = [arm.name for arm, asked in ((ENDPOINT, endpoint), (OWN_AGENT, agent)) if asked is not None]
    if not chosen and outside:
        comparison = comparison_of(*[DEFAULT.baseline.name, *outside][-2:])
    for what, option, given, wanted in (
        ("model outside", "--model-endpoint URL", endpoint, any(arm.model_outside for arm in comparison)),
        (
            "own agent",
            "--agent-url URL or --agent-command COMMAND",
            agent,
            any(not arm.seen for arm in comparison),
        ),
    ):
        names = " and ".join(comparison.names)
        if wanted and given is None:
            raise invalid_argument(
                "arm_incomplete",
                expected=f"{option} for the arms {names}",
                got="none",
                todo="say where it is, or compare other arms",
            )
        if given is not None and not wanted:
            raise _unused(option, f"an arm with its {what} in --compare, which has {names}")
    return comparison


def _parameter(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise invalid_argument(
            "parameter_invalid",
            expected="--model-parameter KEY=JSON",
            got=repr(clip(text)),
            todo="such as reasoning_effort=low or max_tokens=512",
        )
    try:
        return key.strip(), json.loads(value)
    except ValueError:
        return key.strip(), value


def _unused(got: str, expected: str) -> Exception:
    return invalid_argument(
        "option_unused", expected=expected, got=got, todo="leave it out, or add the other"
    )
