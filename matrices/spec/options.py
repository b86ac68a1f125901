"""A value chosen by a name, with options of its own: `"numeric"`, or `{"name": "numeric", "tolerance": 0.5}`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from treni.errors import TreniError

Chosen = TypeVar("Chosen", bound=BaseModel)


def chosen(given: object, options: Mapping[str, type[Chosen]], what: str) -> Chosen:
    """The value that `given`, a name or an object with a name, stands for; a value is returned as it is.

    Raises `ValueError` that says what is expected of `what` (a word such as "grader").
    """
    if isinstance(given, BaseModel):
        return given  # type: ignore[return-value]
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ValueError(f'the name of a {what}, or an object with its "name" and its options')  # noqa: TRY004 - pydantic reads it
    name = given["name"]
    try:
        made = options[name]
    except KeyError:
        raise ValueError(unknown(what, name, options)) from None
    except TreniError as error:
        raise ValueError(str(error)) from None
    try:
        return made.model_validate_json(json.dumps({k: v for k, v in given.items() if k != "name"}))
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"]
            for one in error.errors(include_url=False)
        )
        raise ValueError(f"the {what} {name}: {'; '.join(problems)}") from None


def written(value: BaseModel, options: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The object that `chosen` reads as `value`: its name, and those of its options that are not as by default."""
    name = next(name for name, made in options.items() if made is type(value))
    return {"name": name, **value.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def unknown(what: str, name: str, options: Mapping[str, object]) -> str:
    """Words for a name that none of the options has, with the nearest that one has, or all of them."""
    near = difflib.get_close_matches(name[:60].casefold(), list(options), n=1)
    there_is = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(options)}"
    return f"no {what} {name[:60]!r}; {there_is}"
