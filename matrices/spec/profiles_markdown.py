"""docs/profiles.md: every key of a profile with what it may be, its default and its meaning, from the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from matrices.spec.profiles import (
    RULES,
    BurstSpec,
    FaultsSpec,
    PolicySpec,
    Profile,
    TimedRule,
    bundled_profiles,
    parse_duration_s,
)

_NAMES = {int: "whole number", float: "number", str: "text"}
_BOUNDS = {"ge": "from", "gt": "over", "le": "up to", "lt": "under"}


def profiles_markdown() -> str:
    """The whole page."""
    shared = list(TimedRule.model_fields)
    lines = [
        "# Profiles",
        "",
        "A profile is a TOML file: who may spend what, and which faults strike where. This page is printed by "
        "`python -m matrices.spec.profiles_markdown`. A duration is a number with a unit (`us`, `ms`, `s`, `m`), "
        'such as `"250ms"`. A key that is not here is refused.',
        "",
        *_table("Top level", Profile, []),
        *_table("`[policy]`", PolicySpec, []),
        *_table("`[faults]`", FaultsSpec, []),
        "## `[[faults.rules]]`: when",
        "",
        "Exactly one of `every`, `rate` and `burst`. What is drawn is drawn before the run, from the seed and the "
        "attempt's place (request, call, attempt), so that `--dry-run` knows every count.",
        "",
        *_rows(TimedRule, []),
        "",
        *_table("`burst = { enter = 0.1, leave = 0.25, rate = 0.9 }`", BurstSpec, []),
        "## `[[faults.rules]]`: what",
        "",
    ]
    for kind, model in RULES.items():
        lines += [f'### `kind = "{kind}"`', "", str(model.__doc__), ""]
        own = [name for name in model.model_fields if name != "kind" and name not in shared]
        lines += [*_rows(model, [*shared, "kind"]), ""] if own else []
    lines += ["## The bundled profiles", "", "| profile | title |", "| --- | --- |"]
    lines += [f"| `{profile.name}` | {profile.title} |" for profile in bundled_profiles().values()]
    return "\n".join(lines) + "\n"


def _table(title: str, model: type[BaseModel], without: list[str]) -> Iterator[str]:
    yield from (f"## {title}", "", str(model.__doc__), "", *_rows(model, without), "")


def _rows(model: type[BaseModel], without: list[str]) -> Iterator[str]:
    yield from ("| key | value | default | meaning |", "| --- | --- | --- | --- |")
    for name, field in model.model_fields.items():
        if name not in without:
            yield f"| `{name}` | {_allowed(field)} | {_default(field)} | {field.description} |"


def _allowed(field: FieldInfo) -> str:
    """What the key may be: "`hop` or `tool`", "whole number from 0, up to 10"; bounds of durations in seconds."""
    annotation: Any = field.annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if all(isinstance(kind, str) for kind in kinds):
        return " or ".join(f"`{kind}`" for kind in kinds)
    is_duration = _is_duration(field)
    name = "duration" if is_duration else _NAMES.get(kinds[0], "table" if len(kinds) == 1 else "tables")
    bounds = [
        f"{word} {getattr(item, bound)}" + (" s" if is_duration and getattr(item, bound) else "")
        for bound, word in _BOUNDS.items()
        for item in field.metadata
        if hasattr(item, bound)
    ]
    return " ".join([name, ", ".join(bounds)]).strip()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "its defaults"
    if field.default is None or field.default == ():
        return "none"
    if _is_duration(field):
        return f"`{field.default:g}s`"
    return f"`{field.default}`"


def _is_duration(field: FieldInfo) -> bool:
    return any(getattr(item, "func", None) is parse_duration_s for item in field.metadata)


if __name__ == "__main__":
    print(profiles_markdown(), end="")
