"""`treni-route reports`: campaigns in the browser, live while one runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from treni import entry
from treni.errors import invalid_argument

_NICE = 19
"""How far everything else on the machine comes first: a campaign may be running on it."""

_EPILOG = """\b
Examples:
  treni-route reports                 what is below ./results, at http://127.0.0.1:8350/
  treni-route reports examples --port 0

\b
Exit status: 0 it was told to end; 1 an error; 2 usage."""


@entry.command(epilog=_EPILOG)
@click.argument("folder", type=click.Path(path_type=Path), default=Path("results"))
@click.option(
    "--port",
    type=entry.WholeRange(min=0, max=65535),
    default=8350,
    show_default=True,
    help="The port on this machine's loopback; 0 picks a free one.",
)
def reports(folder: Path, port: int) -> None:
    """List the campaigns below FOLDER (default: results) in a browser, and follow those that run.

    Prints the address as one line of JSON and serves until it is interrupted, on this machine alone. It only reads: no
    campaign is written to or waited for, and everything else on the machine comes first.
    """
    if not folder.is_dir():
        raise invalid_argument(
            "path_unusable",
            expected="a folder with campaigns",
            got=str(folder),
            todo="name one that is there",
        )
    os.nice(_NICE)
    asyncio.run(_serve(folder, port))


async def _serve(folder: Path, port: int) -> None:
    from matrices.browser.app import application
    from matrices.browser.folder import Campaigns
    from treni import http_serving, serving

    running = await http_serving.start(application(Campaigns(folder)), host="127.0.0.1", port=port)
    try:
        entry.note(f"open {running.address}/ in a browser; Ctrl-C ends it")
        await serving.until_told_to_stop({"address": running.address})
    finally:
        await running.stop()
