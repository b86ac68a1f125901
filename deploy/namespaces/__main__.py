"""`python -m deploy.namespaces gpu,cpu`: hosts to try things on, by hand or by one command."""

from __future__ import annotations

import json
import signal
import sys

import click

from deploy.namespaces.making import made
from treni import entry

_EPILOG = """\b
Examples:
  python -m deploy.namespaces gpu,cpu                          prints how to enter each; a Ctrl-C ends them
  python -m deploy.namespaces gpu,cpu -- ip -s link            runs that on the first, and ends as it does"""


@entry.command(epilog=_EPILOG, context_settings={"allow_interspersed_args": False})
@click.argument("names")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(names: str, command: tuple[str, ...]) -> None:
    """Make hosts of those NAMES out of namespaces of this machine, joined by a link, for as long as this runs.

    Each has network, processes, mounts, home and /tmp of its own, and knows the others by name. Needs Linux and root.
    Prints a line of JSON with each host's address and what to put before a command to run it there, and stays until
    it is interrupted; however it ends, nothing of the hosts is left.
    """
    with made(names.split(",")) as hosts:
        if command:
            done = hosts[names.split(",")[0]].start(*command, stdout=None)
            sys.exit(done.wait())
        told = {
            name: {"address": host.address, "enter": " ".join(host.command())}
            for name, host in hosts.by_name.items()
        }
        print(json.dumps(told), flush=True)
        signal.pause()


if __name__ == "__main__":
    main(prog_name="python -m deploy.namespaces")
