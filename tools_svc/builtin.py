"""The source of the tools that ship with the project, and of those that installed packages add to them."""

from __future__ import annotations

from collections.abc import Mapping

from tools_svc import calculator, facts_sql, ledger_append, notes_search
from tools_svc.arguments import ArgumentsCheck
from tools_svc.protocol import OpenSource, SourceEntry, Tool, ToolEntry, ToolsConfig
from tools_svc.suggest import clip
from treni import plugins
from treni.errors import Code, TreniError, invalid_argument
from treni.v1.common_pb2 import ToolSpec

TOOLS: plugins.Plugins[ToolEntry] = plugins.Plugins(
    "treni_route.tools",
    ToolEntry,
    lambda entry: entry.spec.name,
    (calculator.ENTRY, facts_sql.ENTRY, notes_search.ENTRY, ledger_append.ENTRY),
)
"""Every tool there is by name, in the order in which they are listed. A package adds one by an entry point of this
group that loads its `ToolEntry`."""


def tool_specs() -> tuple[ToolSpec, ...]:
    """The specs of every tool of this source, without building any."""
    return tuple(entry.spec for entry in TOOLS.values())


def _check(argument: str | None) -> None:
    if argument is not None:
        raise invalid_argument(
            "tool_source_invalid", expected="builtin, without an argument", got=f"builtin:{clip(argument)}"
        )


def _open(argument: str | None, config: ToolsConfig) -> OpenSource:
    def built(names: Mapping[str, str]) -> list[Tool]:
        tools: list[Tool] = []
        try:
            for name, entry in TOOLS.items():
                tools.append(_built(name, entry, config))
        except TreniError:
            for tool in tools:
                tool.close()
            raise
        return tools

    return OpenSource(label="builtin", specs=tool_specs(), tools=built, close=lambda: None)


def _built(name: str, entry: ToolEntry, config: ToolsConfig) -> Tool:
    try:
        ArgumentsCheck(entry.spec)
        return entry.build(config)
    except TreniError:
        raise
    except Exception as error:  # a tool may be any package's
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "tool_unbuildable",
            expected=f"the tool {name} to be built",
            got=clip(f"{type(error).__name__}: {error}"),
            todo="mend or uninstall the package that adds it",
        ) from error


ENTRY = SourceEntry(name="builtin", check=_check, open=_open)
