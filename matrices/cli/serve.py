"""`treni-route serve`: one role by itself or for a testbed, in a process of its own."""

from __future__ import annotations

import os
import sys

import click

from matrices.topologies.role_command import HOST, MODULES, role_command
from treni import entry

_ABOUT = {
    "agent": "Serve the internal arm: loop, engine and tools in one process.",
    "runtime": "Serve a model: inference over gRPC.",
    "controller": "Serve the external arm: the agent's loop over a model and tools that are served elsewhere.",
    "tools": "Serve the tools.",
    "host": "Harm this host and its links as profiles with faults between hosts say; always for a testbed.",
}


@entry.group()
def serve() -> None:
    """Serve one role until it is interrupted.

    Prints one line of JSON with the address when it is ready; `treni-route serve ROLE [--testbed] -h` has its options.
    With --testbed it is a role that `treni-route matrix --topology hosts.toml` can use. --config FILE reads options
    from a TOML file.
    """


def _add(role: str) -> None:
    @serve.command(
        role,
        help=_ABOUT[role],
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
        add_help_option=False,
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def one(arguments: tuple[str, ...]) -> None:
        # A process with few imports and a number of threads of its own.
        os.execv(sys.executable, [sys.executable, *role_command(role, arguments)])


for _role in (*MODULES, HOST):
    _add(_role)
