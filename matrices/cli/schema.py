"""`treni-route schema`: JSON schemas of the files that people write and of those that a campaign leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import click
import pydantic

from matrices.cli.campaign_file import campaign_schema
from matrices.cli.matrix import matrix
from matrices.evidence.events import Event
from matrices.evidence.manifest import Manifest
from matrices.spec.profiles import Profile
from matrices.spec.rules import DURATION_SCHEMA, duration_text
from matrices.spec.suites import Task
from treni import entry
from treni.storage import write_whole, writing

FOLDER = Path(str(resources.files("matrices") / "schemas"))
"""Where the package has them, each as `NAME.schema.json`."""

SCHEMAS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "profile": ("A failure profile, a .toml file.", Profile.model_json_schema),
    "suite": ("One line of a suite or of one's own tasks, a .jsonl file.", Task.model_json_schema),
    "campaign": ("A campaign in one file, a .toml file.", lambda: campaign_schema(matrix)),
    "manifest": (
        "A campaign's manifest.json.",
        lambda: pydantic.TypeAdapter(Manifest).json_schema(),
    ),
    "history": (
        "One line of a campaign's history.jsonl, without its first key, `prev`: the digest of the line before.",
        lambda: pydantic.TypeAdapter(Event).json_schema(),
    ),
}
"""Every schema by its name: what it is of, and the schema itself, made from the code that reads the file."""


@entry.command()
@click.argument("name", type=click.Choice(list(SCHEMAS)), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Write all of them into this folder.")
def schema(name: str | None, out: Path | None) -> None:
    """Print the JSON schema NAME of a profile, a suite's line, a campaign's file, a manifest or a history's line.

    A profile or a campaign names its schema in its first line, `#:schema URL`, where editors with a TOML language
    server find it; the bundled schemas lie in the package, in matrices/schemas.
    """
    if (name is None) == (out is None):
        raise click.UsageError(f"give the name of one ({', '.join(SCHEMAS)}), or --out a folder for all")
    if name is not None:
        click.echo(schema_text(name), nl=False)
        return
    assert out is not None
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for one in SCHEMAS:
        write_whole(out / f"{one}.schema.json", schema_text(one).encode())


def schema_text(name: str) -> str:
    """The schema as indented JSON, ASCII only."""
    title, make = SCHEMAS[name]
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_as_written(make()),
        "title": name,
        "description": title,
    }
    return json.dumps(made, indent=2, sort_keys=True) + "\n"


def _as_written(value: Any) -> Any:
    """The schema with the defaults of durations as a file writes them."""
    if isinstance(value, list):
        return [_as_written(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    made = {key: _as_written(inner) for key, inner in value.items()}
    if is_duration(made) and isinstance(made.get("default"), float):
        made["default"] = duration_text(made["default"])
    return made


def is_duration(schema: Mapping[str, Any]) -> bool:
    """Whether the schema of a key is that of a duration."""
    return schema.get("pattern") == DURATION_SCHEMA["pattern"]
