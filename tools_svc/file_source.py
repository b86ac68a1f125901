"""The source of the tools in a Python file: `file:PATH`, with every `ToolEntry` that stands in the file by a name."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from tools_svc.arguments import ArgumentsCheck
from tools_svc.protocol import OpenSource, SourceEntry, Tool, ToolEntry, ToolsConfig
from tools_svc.suggest import clip
from treni.errors import TreniError, invalid_argument

FIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _check(argument: str | None) -> None:
    """Raises INVALID_ARGUMENT for what is no Python file that is there; runs nothing of it."""
    if argument is None or not argument.strip():
        raise _invalid("a path after file:", "nothing", "correct --tools")
    path = Path(argument)
    if path.suffix != ".py" or not path.is_file():
        raise _invalid("a Python file (.py) that is there", repr(clip(argument)), "correct --tools")


def _open(argument: str | None, config: ToolsConfig) -> OpenSource:
    """Runs the file and takes the tools that it defines."""
    assert argument is not None
    path = Path(argument)
    entries = _entries(path)

    def built(names: Mapping[str, str]) -> list[Tool]:
        for name in names:
            raise _invalid(
                f"tools in {path} with names that no other source has",
                f"{name!r}, which is taken",
                "rename the function, or leave the other source out",
            )
        tools: list[Tool] = []
        try:
            for entry in entries:
                tools.append(_built(path, entry, config))
        except TreniError:
            for tool in tools:
                tool.close()
            raise
        return tools

    return OpenSource(
        label=path.stem, specs=tuple(entry.spec for entry in entries), tools=built, close=lambda: None
    )


def _entries(path: Path) -> list[ToolEntry]:
    """The tools of the file in the order of their names there. Raises INVALID_ARGUMENT for none, or a broken file."""
    # Once each, under however many names: a spec has no hash.
    found = list(
        {id(value): value for value in vars(_run(path)).values() if isinstance(value, ToolEntry)}.values()
    )
    if not found:
        raise _invalid(
            f"a function under @tool in {path}", "none", "put `@tool` (of tools_svc.functions) over one"
        )
    for entry in found:
        try:
            ArgumentsCheck(entry.spec)
        except Exception as error:  # a spec may be anybody's
            raise _invalid(f"the tool {entry.spec.name} of {path} to have a schema", f"{error}") from error
        if not FIT_NAME.fullmatch(entry.spec.name):
            raise _invalid(f"a tool's name in {path} of at most 64 letters, digits, _ and -", entry.spec.name)
    return found


def _run(path: Path) -> ModuleType:
    # A name of its own: files in two folders may be called alike, and none takes the place of a module that is there.
    name = f"treni_route_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # types are looked up there by name
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise _invalid(f"the tools' file {path} to run", _said(error, path)) from error
    return module


def _said(error: BaseException, path: Path) -> str:
    """What was raised, and in which line of the file."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename) == path:
            line = frame.lineno
    where = "" if line is None else f" in line {line}"
    return clip(f"{type(error).__name__}: {error}{where}")


def _built(path: Path, entry: ToolEntry, config: ToolsConfig) -> Tool:
    try:
        return entry.build(config)
    except TreniError:
        raise
    except Exception as error:  # a tool may be anybody's
        raise _invalid(
            f"the tool {entry.spec.name} of {path} to be built", clip(f"{type(error).__name__}: {error}")
        ) from error


def _invalid(expected: str, got: str, todo: str = "mend the file") -> TreniError:
    return invalid_argument("tool_source_invalid", expected=expected, got=got, todo=todo)


def _settled(argument: str | None) -> str | None:
    return None if argument is None else str(Path(argument).resolve())


ENTRY = SourceEntry(name="file", check=_check, open=_open, settled=_settled)
