"""Where tools come from: sources by what the user writes, opened in order, no two tools under one name.

A source is "builtin", or a kind and its argument, such as `mcp:http://127.0.0.1:9000/mcp`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tools_svc import builtin, file_source
from tools_svc.mcp import source as mcp_source
from tools_svc.protocol import OpenSource, SourceEntry, Tool, ToolsConfig
from tools_svc.suggest import clip, did_you_mean
from treni import plugins
from treni.errors import invalid_argument
from treni.v1.common_pb2 import ToolSpec

SOURCES: plugins.Plugins[SourceEntry] = plugins.Plugins(
    "treni_route.tool_sources",
    SourceEntry,
    lambda entry: entry.name,
    (builtin.ENTRY, file_source.ENTRY, mcp_source.ENTRY),
)
"""Every kind of source by name. A package adds one by an entry point of this group that loads its `SourceEntry`."""

BUILTIN = ("builtin",)
"""The sources where none are asked for."""

_log = logging.getLogger(__name__)


def check_sources(sources: Sequence[str]) -> None:
    """Raises INVALID_ARGUMENT for what is no source; opens nothing."""
    for text in sources:
        entry, argument = _entry(text)
        entry.check(argument)
        if sources.count(text) > 1 and argument is None:
            raise invalid_argument("tool_source_invalid", expected=f"{text} once", got="more than once")


def settled(text: str) -> str:
    """The source as it means the same from any folder. Raises INVALID_ARGUMENT for what is no source."""
    entry, argument = _entry(text)
    entry.check(argument)
    where = entry.settled(argument)
    return entry.name if where is None else f"{entry.name}:{where}"


def _entry(text: str) -> tuple[SourceEntry, str | None]:
    name, colon, argument = text.partition(":")
    if name not in SOURCES:
        raise invalid_argument(
            "tool_source_unknown",
            expected=f"a source of tools: {', '.join(SOURCES)}",
            got=repr(clip(text)),
            todo=did_you_mean(name, tuple(SOURCES)),
        )
    return SOURCES[name], argument if colon else None


def open_tools(config: ToolsConfig, opened: ExitStack) -> list[Tool]:
    """The tools of the config's sources in order; `opened` closes the sources.

    A name that an earlier source has, or a tool of ours whether it is there or not, is given the label of its source
    before it, which is told in the log. Raises INVALID_ARGUMENT (`tool_name_taken`) where that is taken too, and what
    sources raise.
    """
    check_sources(config.sources)
    tools: list[Tool] = []
    taken: set[str] = set()
    reserved = set(builtin.TOOLS)
    try:
        for text in config.sources:
            entry, argument = _entry(text)
            source = entry.open(argument, config)
            opened.callback(source.close)
            tools += source.tools({} if entry is builtin.ENTRY else _names(source, taken | reserved))
            taken.update(tool.spec.name for tool in tools)
    except BaseException:
        for tool in tools:
            tool.close()
        raise
    return tools


def _names(source: OpenSource, taken: set[str]) -> dict[str, str]:
    """The names that the source's tools get instead of their own."""
    own = {spec.name for spec in source.specs}
    renamed: dict[str, str] = {}
    for name in sorted(own & taken):
        other = f"{source.label}_{name}"[:64]
        if other in taken | own | {*renamed.values()}:
            raise invalid_argument(
                "tool_name_taken",
                expected=f"a name for the tool {name!r} of {source.label} that no other tool has",
                got=f"{name!r} and {other!r}, which are taken",
                todo="leave one of the sources out",
            )
        renamed[name] = other
        _log.warning("a tool's name is taken", extra={"tool": name, "source": source.label, "now": other})
    return renamed


def list_tools(sources: Sequence[str]) -> tuple[ToolSpec, ...]:
    """The tools of the sources as a host would list them: opened, and closed again. Raises what `open_tools` raises."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        config = ToolsConfig(ledger_path=Path(folder) / "ledger.sqlite", sources=tuple(sources))
        tools = open_tools(config, opened)
        for tool in tools:
            opened.callback(tool.close)
        return tuple(tool.spec for tool in tools)
