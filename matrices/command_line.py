"""What the commands of `treni-route` share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import click

from treni.errors import Code, TreniError


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """A TreniError ends the command with one line on stderr: 2 for what the user asked wrongly, else 1."""
    try:
        yield
    except TreniError as error:
        click.echo(f"treni-route: {error}", err=True)
        sys.exit(2 if error.code is Code.INVALID_ARGUMENT else 1)


def bundled_checkpoint() -> Path:
    """Where the bundled model is."""
    return Path(str(resources.files("runtime_svc") / "checkpoints" / "treni-tiny"))
