"""The tools of a campaign: where they come from, and what was listed there before it began."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pydantic

from matrices.spec import strict
from tools_svc.registry import TOOLS, tool_specs
from tools_svc.sources import BUILTIN, list_tools, settled
from treni.v1.common_pb2 import ToolSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedTool:
    """One tool as its source listed it; `sha256` is the digest of its spec, `builtin` whether it is one of ours."""

    __pydantic_config__ = strict.STRICT

    name: str
    has_side_effects: bool
    builtin: bool
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tooling:
    """The sources of a campaign's tools; `listed` is what they had, empty for the builtin source alone."""

    __pydantic_config__ = strict.STRICT

    sources: tuple[str, ...] = BUILTIN
    listed: tuple[ListedTool, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every tool there is."""
        if self.sources == BUILTIN:
            return tuple(spec.name for spec in tool_specs())
        return tuple(tool.name for tool in self.listed)

    def changes(self, name: str) -> bool:
        """Whether the tool of that name has side effects."""
        if self.sources == BUILTIN:
            return _changes(name)
        return any(tool.name == name and tool.has_side_effects for tool in self.listed)

    @property
    def foreign(self) -> frozenset[str]:
        """The tools that are none of ours, and so have results of any form."""
        return frozenset(tool.name for tool in self.listed if not tool.builtin)

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each tool by name, for whoever hosts them to compare; empty for the builtin source alone."""
        return {tool.name: tool.sha256 for tool in self.listed}

    @property
    def options(self) -> list[str]:
        """The options by which a role is told of the sources; none where they are as by default."""
        return [] if self.sources == BUILTIN else [text for one in self.sources for text in ("--tools", one)]

    @property
    def written(self) -> dict[str, Any]:
        """What the manifest's details keep of it."""
        if self.sources == BUILTIN:
            return {}
        return {"tools": {"sources": self.sources, "listed": [asdict(tool) for tool in self.listed]}}


@functools.cache
def _changes(tool: str) -> bool:
    return tool in TOOLS and TOOLS[tool].spec.has_side_effects


def tooling_of(sources: Sequence[str]) -> Tooling:
    """The tooling of the sources, which are opened to be listed. Raises `TreniError` for one that cannot be."""
    if tuple(sources) in ((), BUILTIN):
        return Tooling()
    sources = tuple(map(settled, sources))
    specs = list_tools(sources)
    ours = set(TOOLS) if BUILTIN[0] in sources else set()
    return Tooling(
        sources=tuple(sources),
        listed=tuple(
            ListedTool(
                name=spec.name,
                has_side_effects=spec.has_side_effects,
                builtin=spec.name in ours,
                sha256=digest_of(spec),
            )
            for spec in specs
        ),
    )


_ADAPTER: pydantic.TypeAdapter[Tooling] = pydantic.TypeAdapter(Tooling)


def tooling_written(details: Mapping[str, Any]) -> Tooling:
    """The tooling in a manifest's details. Raises `TreniError` (`manifest_malformed`)."""
    if "tools" not in details:
        return Tooling()
    data = json.dumps(details["tools"]).encode()
    return strict.parse(_ADAPTER, data, kind="manifest_malformed", where="details.tools")


def digest_of(spec: ToolSpec) -> str:
    """The digest of all that a spec says."""
    return hashlib.sha256(spec.SerializeToString(deterministic=True)).hexdigest()
