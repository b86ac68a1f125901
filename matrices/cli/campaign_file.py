"""A campaign in one TOML file: every option of `treni-route matrix` under its name, and the profiles.

Nothing here knows an option: the file's keys, their types and the JSON schema are those of the command.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema

from tools_svc.suggest import did_you_mean
from treni import entry
from treni.errors import TreniError, invalid_argument
from treni.text_files import read_text

BESIDE = frozenset(
    {"resume", "dry_run", "form", "live", "metrics_port", "metrics_targets", "trace", "trace_endpoint"}
)
"""The options that say how a campaign is dealt with, and not what it is."""

FILES = frozenset({"suite", "tasks", "model", "topology", "network", "tools", "out"})
"""The keys whose value may be a file or a folder: a relative one lies beside the campaign's file."""

PROFILES = "profiles"
FOLDER = "treni_route.folder"
"""Where a context keeps the folder of its campaign's file."""


def take_file(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The profiles, where `value` is a campaign's file: its other keys become the defaults of the options.

    The callback of the argument PROFILES; other values pass as they are. Raises INVALID_ARGUMENT that names the key.
    """
    if value is None or not value.endswith(".toml") or "," in value or context.resilient_parsing:
        return value
    path = Path(value)
    data = _read(path)
    if PROFILES not in data and "name" in data:
        return value  # a profile's own file
    known = keys(context.command)
    data = {key.replace("_", "-"): one for key, one in data.items()}
    _validate(path, data, known)
    folder = path.parent
    context.meta[FOLDER] = folder
    context.default_map = {
        known[key].name: _beside(folder, key, one) for key, one in data.items() if key != PROFILES
    }
    chosen = data[PROFILES]
    return ",".join(
        str(_beside(folder, "suite", one)) for one in (chosen if isinstance(chosen, list) else [chosen])
    )


def folder_of(context: click.Context) -> Path:
    """The folder of the campaign's file, the working directory without one."""
    folder: Path = context.meta.get(FOLDER, Path())
    return folder


def keys(command: click.Command) -> dict[str, click.Option]:
    """The keys that a campaign's file may have beside `profiles`, each with the option that it stands for."""
    return {
        max(option.opts, key=len).removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value and option.name not in BESIDE
    }


def campaign_schema(command: click.Command) -> dict[str, Any]:
    """The JSON schema of a campaign's file."""
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            PROFILES: {
                "description": "The profiles to run, such as p00..p05, or a list of names, ranges and files.",
                "anyOf": [text, {"type": "array", "items": text, "minItems": 1}],
            },
            **{key: _schema(option) for key, option in keys(command).items()},
        },
        "required": [PROFILES],
        "additionalProperties": False,
    }


def _schema(option: click.Option) -> dict[str, Any]:
    one: dict[str, Any] = {"type": "string"}
    kind = option.type
    if option.is_flag:
        one = {"type": "boolean"}
    elif isinstance(kind, entry.WholeRange | entry.FiniteRange):
        one = {"type": "integer" if isinstance(kind, entry.WholeRange) else "number"}
        for bound, is_open, word in (
            (kind.min, kind.min_open, "minimum"),
            (kind.max, kind.max_open, "maximum"),
        ):
            if bound is not None:
                one[f"exclusive{word.capitalize()}" if is_open else word] = bound
    elif isinstance(kind, click.Choice):
        one = {"enum": list(kind.choices)}
    if option.multiple:
        one = {"type": "array", "items": one}
    return {**one, "description": option.help}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, what="a campaign's file"))
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{path} to be TOML", str(error), "correct it") from None


def _validate(path: Path, data: Mapping[str, Any], known: Mapping[str, click.Option]) -> None:
    command_keys = [PROFILES, *known]
    for key in data:
        if key not in command_keys:
            raise _invalid(f"keys of a campaign in {path}", f"{key!r}", did_you_mean(key, command_keys))
    if PROFILES not in data:
        raise _invalid(f"{PROFILES} in {path}", "none", f'say which, such as {PROFILES} = "p00..p05"')
    schema = {key: _schema(option) for key, option in known.items()}
    schema[PROFILES] = campaign_schema(click.Command("none"))["properties"][PROFILES]
    for key, value in data.items():
        for error in jsonschema.Draft202012Validator(schema[key]).iter_errors(value):
            raise _invalid(f"{key} in {path} to fit its option", error.message[:200], "correct it")


def _beside(folder: Path, key: str, value: Any) -> Any:
    """The value, where it names a file that lies in the folder with the folder before it."""
    if isinstance(value, list):
        return [_beside(folder, key, one) for one in value]
    if key not in FILES or not isinstance(value, str):
        return value
    if key in ("tasks", "out"):
        return str(folder / value)
    for head, tail in _splits(value):
        if tail and (folder / tail).exists():
            return f"{head}{folder / tail}"
    return value


def _splits(value: str) -> Iterator[tuple[str, str]]:
    """The value as a path, and as one behind a name: `pilot:FILE.toml`."""
    yield "", value
    name, colon, rest = value.partition(":")
    if colon:
        yield f"{name}:", rest


def _invalid(expected: str, got: str, todo: str) -> TreniError:
    return invalid_argument("campaign_file_invalid", expected=expected, got=got, todo=todo)
