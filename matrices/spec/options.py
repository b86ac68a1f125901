"""A grader as a suite chooses it, by its name or with options: `{"name": "numeric", "tolerance": 0.5}`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from matrices.graders import GRADERS, OURS
from matrices.graders.grader import Grader
from treni.errors import TreniError


def grader_of(given: object) -> Grader:
    """The grader that `given`, a name or an object with a name, stands for; a grader is returned as it is.

    Raises `ValueError` that says what is expected.
    """
    if isinstance(given, Grader):
        return given
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ValueError('the name of a grader, or an object with its "name" and its options')  # noqa: TRY004
    name = given["name"]
    try:
        made = GRADERS[name].grader
    except KeyError:
        raise ValueError(unknown("grader", name, GRADERS)) from None
    except TreniError as error:
        raise ValueError(str(error)) from None
    try:
        return made.model_validate_json(json.dumps({k: v for k, v in given.items() if k != "name"}))
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"]
            for one in error.errors(include_url=False)
        )
        raise ValueError(f"the grader {name}: {'; '.join(problems)}") from None


def grader_schema() -> dict[str, Any]:
    """The JSON Schema of what `grader_of` reads: a name, or an object with the options of ours or of another's."""
    ours = [_options(entry.name, entry.grader) for entry in OURS]
    names = [entry.name for entry in OURS]
    others = {"type": "object", "required": ["name"], "properties": {"name": {"not": {"enum": names}}}}
    return {
        "description": "How an answer is held against `expect.answer`.",
        "anyOf": [{"type": "string", "examples": names}, *ours, others],
    }


def _options(name: str, grader: type[Grader]) -> dict[str, Any]:
    schema = grader.model_json_schema(by_alias=True)
    return {
        "type": "object",
        "required": ["name", *schema.get("required", [])],
        "properties": {"name": {"const": name}, **schema["properties"]},
        "additionalProperties": False,
    }


def written(grader: Grader) -> dict[str, Any]:
    """The object that `grader_of` reads as this grader: its name, and those options that are not as by default."""
    name = next(name for name, entry in GRADERS.items() if entry.grader is type(grader))
    return {"name": name, **grader.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def unknown(what: str, name: str, names: Iterable[str]) -> str:
    """Words for a name that is none of the names of `what`, with the nearest that is one, or all of them."""
    names = list(names)
    near = difflib.get_close_matches(name[:60].casefold(), names, n=1)
    there_is = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(names)}"
    return f"no {what} {name[:60]!r}; {there_is}"
