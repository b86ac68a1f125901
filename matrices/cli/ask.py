"""`treni-route ask`: a question to an agent, and where the time went."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matrices.arms.registry import DEFAULT, arm_named
from matrices.cli import output
from matrices.cli.termination import TERMINATED, Terminated, unless_terminated
from runtime_svc.backends import BACKENDS
from tools_svc.sources import BUILTIN
from treni import entry
from treni.channels import check_address
from treni.errors import invalid_argument

if TYPE_CHECKING:
    from matrices.running.client import Invocation

_EPILOG = """\b
Examples:
  treni-route ask "What is the population of Oslo?"
  treni-route ask "What is 17 times 23?" "Record it in rent."       two questions in one conversation
  treni-route ask --arm external --json "What is 17 times 23?"
  treni-route ask --agent 127.0.0.1:50051 "What is 17 times 23?"    an agent that is served already
  treni-route ask - < questions.txt                                 a question a line

\b
The answers go to stdout, each on lines of its own, and nothing else; tool calls and times go to stderr. A terminal
shows text as it comes, with whatever the agent says before it calls a tool.

\b
Exit status: 0 every question has an answer; 1 one has none, and stderr says why; 2 usage; 130 interrupted, 143 told to
end by SIGTERM; 141 nobody reads stdout any more."""

_SERVED_OPTIONS = ("arm", "model_dir", "backend", "sources")
"""Options that say what to start, which make no sense beside an agent that is there."""

_OPTION = {"model_dir": "model", "sources": "tools"}


@entry.command(epilog=_EPILOG)
@click.argument("questions", nargs=-1, required=True)
@click.option(
    "--arm", default=DEFAULT.baseline.name, show_default=True, help="Which arm is started, and answers."
)
@click.option("--agent", metavar="HOST:PORT", help="Ask the agent that is served there, and start nothing.")
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="A Hugging Face directory or a GGUF file; default: the bundled treni-tiny.",
)
@click.option(
    "--backend",
    type=click.Choice(list(BACKENDS)),
    default="numpy",
    show_default=True,
    help="The engine's backend; never swapped silently.",
)
@click.option(
    "--tools",
    "sources",
    metavar="builtin|file:TOOL.py|mcp:COMMAND|mcp:URL",
    multiple=True,
    default=BUILTIN,
    show_default=True,
    help="Where tools come from; repeatable.",
)
@click.option(
    "--offer",
    "offered",
    multiple=True,
    metavar="NAME",
    help="Offer this tool; repeatable. Default: all there are.",
)
@click.option("--no-tools", is_flag=True, help="Offer no tools.")
@click.option(
    "--timeout",
    "timeout_s",
    type=entry.FiniteRange(0, 86_400, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds for all questions together, once the agent is there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.pass_context
def ask(context: click.Context, /, questions: tuple[str, ...], as_json: bool, **asked: Any) -> None:
    """Ask QUESTIONS in one conversation, print the answers, and say where the time went.

    A question "-" stands for the lines of stdin, a question each. Without --agent the services are started for it, as a
    campaign starts them, and are gone when it ends.
    """
    if asked["agent"] is not None:
        _refuse_what_is_not_started(context)
        check_address("--agent", asked["agent"])
    if asked["no_tools"] and asked["offered"]:
        raise click.UsageError("expected --offer or --no-tools; got both; leave one out", context)
    said = _spoken(questions)
    try:
        asyncio.run(unless_terminated(_ask(said, as_json=as_json, **asked)))
    except Terminated:
        sys.exit(TERMINATED)


def _refuse_what_is_not_started(context: click.Context) -> None:
    source = click.core.ParameterSource.COMMANDLINE
    given = [name for name in _SERVED_OPTIONS if context.get_parameter_source(name) is source]
    if given:
        names = ", ".join("--" + _OPTION.get(name, name) for name in given)
        raise click.UsageError(
            f"expected --agent alone: it is served already, and nothing is started; got {names} too; leave that out",
            context,
        )


def _spoken(questions: Sequence[str]) -> list[str]:
    """The questions, those of stdin in place of "-". Raises INVALID_ARGUMENT for an empty one, or none."""
    if questions.count("-") > 1:
        raise invalid_argument("question_invalid", expected='"-" once', got="more than once")
    said: list[str] = []
    for question in questions:
        said += [question] if question != "-" else _lines()
    if not said or not all(question.strip() for question in said):
        raise invalid_argument(
            "question_empty", expected="a question", got="an empty one" if said else "no line on stdin"
        )
    return said


def _lines() -> list[str]:
    text = sys.stdin.buffer.read()
    try:
        return [line for line in text.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise invalid_argument(
            "question_invalid", expected="lines of UTF-8 on stdin", got=f"byte {error.start} is none"
        ) from None


async def _ask(
    questions: list[str],
    *,
    as_json: bool,
    arm: str,
    agent: str | None,
    model_dir: Path | None,
    backend: str,
    sources: tuple[str, ...],
    offered: tuple[str, ...],
    no_tools: bool,
    timeout_s: float,
) -> None:
    from matrices.cli.ask_answers import Shown, told
    from matrices.running.questions import Agent, request_for, started
    from matrices.running.questions import ask as put
    from matrices.spec.tooling import tooling_of

    request = request_for(questions, tools=offered, no_tools=no_tools)
    shown = Shown(live=not as_json and sys.stdout.isatty(), quiet=as_json)

    async def put_to(at: Agent) -> Invocation:
        return await put(at, request, timeout_s=timeout_s, watch=shown.hear)

    if agent is not None:
        done = await put_to(Agent(address=agent))
    else:
        where = None if model_dir is None else str(model_dir.resolve())
        tooling = tooling_of(sources)
        async with started(
            arm_named(arm), model_dir=where, backend=backend, tooling=tooling, timeout_s=timeout_s
        ) as at:
            done = await put_to(at)
    if as_json:
        output.say_json(told(questions, shown, done))
    else:
        shown.finish(done)
    if done.error is not None:
        raise done.error
