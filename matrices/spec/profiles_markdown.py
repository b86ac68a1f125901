"""docs/profiles.md: every key of a profile with what it may be, its default and its meaning, from the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from chaos.faults import FAULTS, FaultKind
from matrices.spec.profiles import FaultsSpec, PolicySpec, Profile, bundled_profiles
from matrices.spec.rules import RULES, BurstSpec, RuleSpec, is_duration

_NAMES = {int: "whole number", float: "number", str: "text"}
_BOUNDS = {"ge": "from", "gt": "over", "le": "up to", "lt": "under"}

_BY = (
    '`by = "attempt"` numbers the attempts on a hop from `warmup` + 1 on, retries included, and `every` strikes those '
    "whose number it divides. Each hop has numbers of its own, and each arm. Which request meets a fault then depends "
    "on the retries made before it, so that it takes one request at a time, and `every` beats against the retries.",
    "",
    '`by = "request"` plans a fault for a place: this attempt of this call of this request, counted from 0 on its hop. '
    "Whether a rule strikes there is a hash of `seed`, hop, rule and place, and of nothing else: it is the same in any "
    "order, at any `--concurrency`, in both arms and whatever was retried before. `rate`, `burst`, `from_request` and "
    "`to_request` need it, as do faults that break their host. `--fault-seeds K` plans K times the same requests, with "
    "seeds that count up from `seed`, and pools them.",
    "",
    "A rule's hop is that of `[faults]`, or its own `hop`. Rules on several hops are planned together: a request that "
    "fails on one makes no more calls on the other. On the hop `agent`, which is planned by request only, a request "
    "that does not arrive makes no call at all, and one whose answer is lost has had its effects.",
    "",
)


def profiles_markdown() -> str:
    """The whole page."""
    shared = list(RuleSpec.model_fields)
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
        "## `by`: what a fault is planned for",
        "",
        *_BY,
        "## `[[faults.rules]]`: when and on which hop",
        "",
        "Exactly one of `every`, `rate` and `burst`. What is drawn is drawn before the run, from the seed and the "
        "attempt's place (request, call, attempt), so that `--dry-run` knows every count.",
        "",
        *_rows(RuleSpec, ["kind"]),
        "",
        *_table("`burst = { enter = 0.1, leave = 0.25, rate = 0.9 }`", BurstSpec, []),
        "## `[[faults.rules]]`: what",
        "",
    ]
    for kind, model in RULES.items():
        lines += [f'### `kind = "{kind}"`', "", f"{model.__doc__} {_consequences(FAULTS[kind])}", ""]
        own = [name for name in model.model_fields if name not in shared]
        lines += [*_rows(model, shared), ""] if own else []
    lines += ["## The bundled profiles", "", "| profile | title |", "| --- | --- |"]
    lines += [f"| `{profile.name}` | {profile.title} |" for profile in bundled_profiles().values()]
    return "\n".join(lines) + "\n"


def _consequences(kind: type[FaultKind]) -> str:
    """Where a kind can stand, and what an attempt can end with because of it."""
    sites = " or ".join(f"`{site}`" for site in sorted(kind.sites))
    codes = ", ".join(f"`{code}`" for code in sorted(kind.codes))
    return f"At {sites}. " + (
        f"An attempt can fail with {codes}." if codes else "No attempt fails by it alone."
    )


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
    if len(kinds) == 1:  # a value that may be left out
        kinds = list(get_args(kinds[0])) or kinds
    if all(isinstance(kind, str) for kind in kinds):
        return " or ".join(f"`{kind}`" for kind in kinds)
    lasts = _is_duration(field)
    name = "duration" if lasts else _NAMES.get(kinds[0], "table" if len(kinds) == 1 else "tables")
    bounds = [
        f"{word} {_number(getattr(item, bound))}" + (" s" if lasts and getattr(item, bound) else "")
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
    if field.default is None or field.default in ((), ""):
        return "none"
    if _is_duration(field):
        return f"`{field.default:g}s`"
    return f"`{field.default}`"


def _is_duration(field: FieldInfo) -> bool:
    return any(is_duration(item) for item in field.metadata)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


if __name__ == "__main__":
    print(profiles_markdown(), end="")
