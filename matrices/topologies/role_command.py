"""`treni-route serve ROLE`: the command that runs a role, by itself or for a testbed, with options from a file too."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from treni.errors import TreniError, invalid_argument
from treni.text_files import read_text

MODULES = {
    "agent": "matrices.topologies.agent",
    "runtime": "runtime_svc",
    "controller": "controller",
    "tools": "tools_svc",
}
"""Each role and the module that serves it by itself."""

HOST = "host"
"""The role of who harms a host as planned, which is always one of a testbed."""

TESTBED_MODULE = "matrices.topologies.serve"
TESTBED = "--testbed"
CONFIG = "--config"


def role_command(role: str, arguments: Sequence[str]) -> list[str]:
    """What follows `python` to serve the role with these arguments.

    `--testbed` chooses the role of a testbed, as every topology runs it. `--config FILE` stands for the options in that
    TOML file, each under its name, such as `model-address`; an option that is given beside it counts instead. Raises
    INVALID_ARGUMENT for a file that is none.
    """
    given = list(_with_files(arguments))
    if TESTBED in given or role == HOST:
        return ["-m", TESTBED_MODULE, role, *(one for one in given if one != TESTBED)]
    return ["-m", MODULES[role], *given]


def _with_files(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments after those of the files among them: of an option that is given twice the last one counts."""
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        if name != CONFIG:
            rest.append(argument)
            continue
        path = value if equals else next(left, None)
        if path is None:
            raise invalid_argument("config_missing", expected=f"a file after {CONFIG}", got="nothing")
        yield from _options(Path(path))
    yield from rest


def _options(path: Path) -> Iterator[str]:
    try:
        options = tomllib.loads(read_text(path, what="a file of options"))
    except (ValueError, RecursionError) as error:
        raise _invalid(path, "a TOML file of options", str(error)) from None
    for key, value in options.items():
        option = "--" + key.replace("_", "-")
        match value:
            case True:
                yield option
            case False:
                pass
            case str() | int() | float():
                yield f"{option}={value}"
            case list() if all(isinstance(one, str) for one in value):
                yield from (f"{option}={one}" for one in value)
            case _:
                raise _invalid(
                    path, f"{key} to be a text, a number, a truth value or a list of texts", repr(value)
                )


def _invalid(path: Path, expected: str, got: str) -> TreniError:
    return invalid_argument(
        "config_invalid", expected=f"{path}: {expected}", got=got, todo="correct the file"
    )
