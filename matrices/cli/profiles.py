"""`treni-route profiles`: what profiles there are, what one says, and whether files are valid."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pydantic

from matrices.cli import output
from matrices.cli.schema import FOLDER, is_duration
from matrices.running.preflight import refuse_unknown_tools
from matrices.spec.profiles import (
    Profile,
    bundled_profiles,
    load_profiles,
    select_profiles,
)
from matrices.spec.rules import duration_text
from matrices.spec.suites import bundled_suites, load_suite
from treni import entry

_EPILOG = """\b
Examples:
  treni-route profiles                           the bundled ones
  treni-route profiles --show p03                every key of one, those with their default too, as TOML
  treni-route profiles --validate                whether the bundled profiles and suites are valid
  treni-route profiles --validate mine.toml mine.jsonl

\b
docs/profiles.md explains every key; `treni-route schema profile` prints the JSON schema that an editor can check a
file with. Exit status: 0 valid; 1 an error; 2 not valid, or usage."""


@entry.command(epilog=_EPILOG)
@click.option("--validate", is_flag=True, help="Only say whether FILES, or the bundled ones, are valid.")
@click.option("--show", metavar="NAME", help="Print this profile whole: a name, a range or a path.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@output.format_option
def profiles(validate: bool, show: str | None, files: tuple[Path, ...], form: str) -> None:
    """List the bundled failure profiles, show one, or validate FILES: profiles (.toml) and suites (.jsonl)."""
    if show is not None and (validate or files):
        raise click.UsageError("--show prints a profile by name: give it alone")
    if files and not validate:
        raise click.UsageError("FILES are for --validate; --show prints a profile")
    if validate:
        _validate(files)
    elif show is not None:
        _show(select_profiles(show), form)
    else:
        _list(form)


def _validate(files: tuple[Path, ...]) -> None:
    for file in files:
        if file.suffix not in (".toml", ".jsonl"):
            raise click.UsageError(f"expected profiles (.toml) and suites (.jsonl); got {file}")
    checked = [profile for file in files if file.suffix == ".toml" for profile in load_profiles(file)]
    suites = [load_suite(str(file)) for file in files if file.suffix == ".jsonl"]
    if not files:
        checked = list(bundled_profiles().values())
        suites = [load_suite(name) for name in bundled_suites()]
    for suite in suites:
        refuse_unknown_tools(suite)
    entry.note(f"{len(checked)} profiles and {len(suites)} suites are valid")


def _list(form: str) -> None:
    bundled = bundled_profiles().values()
    if form == "json":
        output.say_json([_summary(profile) for profile in bundled])
    else:
        rows = [(profile.short, profile.name, profile.title) for profile in bundled]
        output.say(output.table(("cell", "profile", "what it does"), rows))


def _summary(profile: Profile) -> dict[str, str]:
    return {"cell": profile.short, "name": profile.name, "title": profile.title}


def _show(shown: list[Profile], form: str) -> None:
    if form == "json":
        output.say_json([profile.model_dump(mode="json") for profile in shown])
    else:
        output.say("\n".join("\n".join(_toml(profile)) + "\n" for profile in shown))


def _toml(profile: Profile) -> Iterator[str]:
    """The profile as a TOML file that says the same, every key of it."""
    data = profile.model_dump(mode="json", exclude_none=True)
    rules = data["faults"].pop("rules")
    yield f"#:schema {(FOLDER / 'profile.schema.json').as_uri()}"
    yield from _lines({key: value for key, value in data.items() if not isinstance(value, dict)}, profile)
    for section in ("policy", "faults"):
        yield from ("", f"[{section}]", *_lines(data[section], getattr(profile, section)))
    for rule, of in zip(rules, profile.faults.rules, strict=True):
        yield from ("", "[[faults.rules]]", *_lines(rule, of))


def _lines(data: Mapping[str, Any], of: pydantic.BaseModel) -> Iterator[str]:
    keys = type(of).model_json_schema()["properties"]
    for key, value in data.items():
        if is_duration(keys[key]):
            yield f'{key} = "{duration_text(value)}"'
        else:
            yield f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
