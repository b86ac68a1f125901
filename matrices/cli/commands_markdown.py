"""`docs/commands.md`, made from the commands themselves: `python -m matrices.cli.commands_markdown` prints it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

import click

from matrices.cli.main import main
from matrices.topologies.role_command import MODULES, TESTBED
from matrices.topologies.serve import main as role_of_testbed

_HEAD = """# Commands

What `treni-route COMMAND -h` prints, for every command. `python -m matrices.cli.commands_markdown` makes it from the
code, and a test compares the two. Data goes to stdout, everything else to stderr; `--format json` is for scripts.
"""

_RUN_ELSEWHERE = {
    ("bench", "runtime"): "runtime_svc.bench.command",
    ("serve", "agent"): MODULES["agent"],
    **{("serve", role): f"{MODULES[role]}.__main__" for role in ("runtime", "controller", "tools")},
}
"""Commands that run in a process of their own, and the module that each is in."""


def commands_markdown() -> str:
    """The page, with a section for each command that does something."""
    os.environ["COLUMNS"] = "100"
    parts = [_HEAD]
    for path, command in _commands(main, ("treni-route",)):
        parts.append(_section(" ".join(path), command))
    parts.append(_section(f"treni-route serve ROLE {TESTBED}", role_of_testbed))
    return "\n".join(parts)


def _section(name: str, command: click.Command) -> str:
    # The command's own settings: a context that is not made by running it does not take them by itself, and click
    # keeps the help option that it made for the first one.
    settings = {**command.context_settings, "max_content_width": 100, "terminal_width": 100}
    return f"## {name}\n\n```\n{command.get_help(click.Context(command, info_name=name, **settings))}\n```\n"


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, _real(command, path)
        return
    yield path, command
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from _commands(inner, (*path, name))


def _real(command: click.Command, path: tuple[str, ...]) -> click.Command:
    """The command that runs, where this one hands everything on to a process of its own."""
    module = _RUN_ELSEWHERE.get((path[-2], path[-1]))
    found = command if module is None else importlib.import_module(module).main
    assert isinstance(found, click.Command)
    return found


if __name__ == "__main__":
    click.echo(commands_markdown(), nl=False)
