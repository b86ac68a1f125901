"""A tool: the depot that a bus line starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools_svc.protocol import CallInfo, Tool, ToolEntry, ToolOutput, make_spec
from treni.errors import invalid_argument
from treni.v1.common_pb2 import ToolSpec

DEPOTS = {"Conest": "hotprism", "Taorest": "coldlake", "Thcopy": "farfield", "Crevaith": "highmoor"}

SPEC = make_spec(
    name="depot_of",
    description="Finds the depot of a line.",
    properties={"name": {"type": "string", "description": "name of the line"}},
    required=("name",),
)


class DepotOf(Tool):
    """A table that is looked up by the name of a line."""

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return SPEC

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """The depot as `{"depot": ...}`. Raises INVALID_ARGUMENT for a line that is not in the table."""
        name = arguments["name"]
        if name not in DEPOTS:
            raise invalid_argument("line_unknown", expected=f"one of {', '.join(DEPOTS)}", got=name)
        return ToolOutput(result={"depot": DEPOTS[name]})


ENTRY = ToolEntry(spec=SPEC, build=lambda config: DepotOf())
