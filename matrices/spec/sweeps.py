"""`--set`: a profile in one variant for each value of a setting, each a cell of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matrices.spec import strict
from matrices.spec.profiles import FaultsSpec, PolicySpec, Profile, distinct, validated
from treni.errors import TreniError, invalid_argument

MAX_VARIANTS = 100
"""How many variants one profile may have."""

KEYS: tuple[str, ...] = (
    *(f"policy.{field}" for field in PolicySpec.model_fields),
    *(f"faults.{field}" for field in FaultsSpec.model_fields if field != "rules"),
)
"""What can be set: every key of a profile that has a single value."""

_RANGE = re.compile(r"^(\d{1,9})\.\.(\d{1,9})$")
_INTEGER = re.compile(r"^[+-]?\d{1,18}$")
_FLOAT = re.compile(r"^[+-]?\d+\.\d+([eE][+-]?\d+)?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A key of a profile and the values that it takes, as they were written."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptCell:
    """Where a cell comes from: the swept profile's full name, and each key that was set with its value as written."""

    __pydantic_config__ = strict.STRICT

    cell: str
    profile: str
    settings: tuple[tuple[str, str], ...]


def parse_setting(text: str) -> Setting:
    """The setting in `policy.retries=0..4` or `policy.tool_timeout=100ms,250ms`.

    Values are separated by commas; `low..high` stands for every whole number from low to high. Raises
    INVALID_ARGUMENT that says which keys there are, or what is wrong with the values.
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals:
        raise _invalid("KEY=VALUES, such as policy.retries=0..4", repr(text))
    if key not in KEYS:
        raise _invalid(f"a key among {', '.join(KEYS)}", repr(key))
    listed = [value for part in values.split(",") for value in _spread(key, part.strip())]
    twice = sorted({value for value in listed if listed.count(value) > 1})
    if twice:
        raise _invalid(f"values of {key} that differ", f"{', '.join(twice)} more than once")
    return Setting(key=key, values=tuple(listed))


def _spread(key: str, text: str) -> Iterator[str]:
    if text == "":
        raise _invalid(f"a value of {key} between its commas", "nothing")
    match = _RANGE.match(text)
    if match is None:
        yield text
        return
    low, high = int(match[1]), int(match[2])
    if not low <= high < low + MAX_VARIANTS:
        raise _invalid(f"{key} from low to high, with at most {MAX_VARIANTS} values", text)
    yield from map(str, range(low, high + 1))


def expand(
    profiles: Sequence[Profile], settings: Sequence[Setting]
) -> tuple[list[Profile], tuple[SweptCell, ...]]:
    """Every profile in every combination of the settings' values, and where each comes from.

    Without settings the profiles as they are, and nothing swept. Raises INVALID_ARGUMENT as a profile's file would,
    and for settings that repeat a key, make too many variants or name two of them alike.
    """
    if not settings:
        return list(profiles), ()
    keys = [setting.key for setting in settings]
    if len(set(keys)) < len(keys):
        raise _invalid("each key in one --set", ", ".join(keys))
    combinations = list(itertools.product(*(setting.values for setting in settings)))
    if len(combinations) > MAX_VARIANTS:
        raise _invalid(f"at most {MAX_VARIANTS} variants of a profile", str(len(combinations)))
    made, swept = [], []
    for profile in profiles:
        for values in combinations:
            pairs = tuple(zip(keys, values, strict=True))
            variant = _variant(profile, pairs)
            made.append(variant)
            swept.append(SweptCell(cell=variant.short, profile=profile.name, settings=pairs))
    return distinct(made), tuple(swept)


def _variant(profile: Profile, settings: tuple[tuple[str, str], ...]) -> Profile:
    data = profile.model_dump()
    for key, text in settings:
        section, field = key.split(".")
        data[section][field] = _literal(text)
    head, underscore, rest = profile.name.partition("_")
    data["name"] = head + "".join(_token(key, text) for key, text in settings) + underscore + rest
    data["title"] = f"{profile.title}; " + ", ".join(f"{key} = {text}" for key, text in settings)
    told = " ".join(f"--set {key}={text}" for key, text in settings)
    return validated(data, f"{profile.name} with {told}")


def _token(key: str, text: str) -> str:
    """The setting as a part of a name: `policy.tool_timeout`, "1.5s" is "tooltimeout1p5s"."""
    field = key.split(".")[1].replace("_", "")
    return field + re.sub(r"[^a-z0-9]", "", text.lower().replace(".", "p"))


def _literal(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text


def _invalid(expected: str, got: str) -> TreniError:
    return invalid_argument("setting_invalid", expected=expected, got=got, todo="correct --set")
