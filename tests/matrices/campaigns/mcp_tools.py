"""An MCP server by hand, over stdio: `python mcp_tools.py FOLDER`. It notes in FOLDER who ran it and what it did."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
REGIONS = {"Conest": "hotprism", "Taorest": "coldlake", "Thcopy": "farfield", "Crevaith": "highmoor"}
PATH = {"type": "string", "description": "the path of the file"}
TOOLS = [
    {
        "name": "get_old_region",
        "description": "Finds the old region of a sensor.",
        "inputSchema": {
            "type": "object",
            "properties": {"name": {"type": "string", "description": "name of the sensor"}},
            "required": ["name"],
        },
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "write_file",
        "description": "Write the file.",
        "inputSchema": {
            "type": "object",
            "properties": {"path": PATH, "content": {"type": "string"}},
            "required": ["path", "content"],
        },
    },
]


def note(name: str, line: str) -> None:
    with (FOLDER / name).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def called(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if name == "get_old_region":
        if arguments.get("name") not in REGIONS:
            return {"content": [{"type": "text", "text": "no such sensor"}], "isError": True}
        return {"content": [{"type": "text", "text": json.dumps({"old_region": REGIONS[arguments["name"]]})}]}
    note("effects", f"{os.getppid()} {arguments['path']}")
    return {"content": [], "structuredContent": {"path": arguments["path"]}}


def main() -> None:
    note("pids", str(os.getpid()))
    for line in sys.stdin:
        message = json.loads(line)
        number, params = message.get("id"), message.get("params") or {}
        match message["method"]:
            case "initialize":
                result: dict[str, Any] = {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "regions", "version": "1"},
                }
            case "tools/list":
                result = {"tools": TOOLS}
            case "tools/call":
                result = called(params["name"], params.get("arguments") or {})
            case _:
                continue
        print(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}), flush=True)


main()
