"""`treni-route serve`: one service by itself, in a process of its own."""

from __future__ import annotations

import os
import sys

import click

from treni import entry

MODULES = {"runtime": "runtime_svc", "controller": "controller", "tools": "tools_svc"}
"""The services by the name that they are served under, and the module of each."""

_ABOUT = {
    "runtime": "Serve a model: inference over gRPC.",
    "controller": "Serve the external arm: the agent's loop over a model and tools that are served elsewhere.",
    "tools": "Serve the tools.",
}


@entry.group()
def serve() -> None:
    """Serve one service by itself until it is interrupted.

    Prints one line of JSON with the address when it is ready; `treni-route serve SERVICE -h` has its options.
    """


def _add(name: str, module: str) -> None:
    @serve.command(
        name,
        help=_ABOUT[name],
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
        add_help_option=False,
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def one(arguments: tuple[str, ...]) -> None:
        # A process with few imports and a number of threads of its own.
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


for _name, _module in MODULES.items():
    _add(_name, _module)
