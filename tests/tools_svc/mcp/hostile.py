"""An MCP server by hand, over stdio, without the SDK: well-behaved in `echo` and `note`, and bad in every other tool.

`python hostile.py FOLDER [MODE]`. It appends a line to FOLDER/effects for each effect, and its pid to FOLDER/pids.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
MODE = sys.argv[2] if len(sys.argv) > 2 else ""
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
READS = {"readOnlyHint": True}

TOOLS: list[dict[str, Any]] = [
    {"name": "echo", "description": "Says the text.", "inputSchema": TEXT, "annotations": READS},
    {"name": "note", "description": "Appends a note.", "inputSchema": TEXT},
    {"name": "set", "description": "Sets it.", "inputSchema": TEXT, "annotations": {"idempotentHint": True}},
    *(
        {"name": name, "description": f"Will {name}.", "inputSchema": TEXT, "annotations": READS}
        for name in (
            "hang",
            "crash",
            "flood",
            "chatter",
            "garbage",
            "other_id",
            "wrong_type",
            "no_content",
            "refuse",
            "rpc_error",
            "rpc_invalid",
            "deep",
            "nan",
            "surrogate",
            "big",
            "image",
            "structured",
            "json_text",
            "change",
            "orphan",
            "ask",
            "late_twice",
        )
    ),
    *(
        {"name": name, "description": f"Will {name}.", "inputSchema": TEXT}
        for name in ("note_and_crash", "note_slowly", "note_big")
    ),
]


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(number: Any, result: Any) -> None:
    say({"jsonrpc": "2.0", "id": number, "result": result})


def text(number: Any, said: str, **more: Any) -> None:
    answer(number, {"content": [{"type": "text", "text": said}], **more})


def effect(said: str) -> None:
    with (FOLDER / "effects").open("a", encoding="utf-8") as file:
        file.write(said + "\n")


def call(number: Any, name: str, arguments: dict[str, Any]) -> None:
    said = str(arguments.get("text", ""))
    match name:
        case "echo":
            text(number, said)
        case "note" | "set":
            effect(said)
            text(number, f"noted {said}")
        case "note_and_crash":
            effect(said)
            os._exit(3)
        case "note_slowly":
            effect(said)
            time.sleep(float(said))
            text(number, f"noted {said}")
        case "note_big":
            effect(said)
            text(number, "x" * 100_000)
        case "hang":
            time.sleep(3600)
        case "crash":
            os._exit(3)
        case "flood":
            while True:
                sys.stdout.write("x" * 65536)
        case "chatter":
            while True:
                say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 1000}})
        case "garbage":
            print("Starting up ... \x00\xff {not json")
            print('[1, 2, {"jsonrpc": "2.0"}]')
            sys.stdout.flush()
            os.write(1, b"\xff\xfe\x00\n\n\n")
            text(number, said)
        case "other_id":
            answer(987654, {"content": [{"type": "text", "text": "for somebody else"}]})
            answer("0x1", {"content": []})
        case "wrong_type":
            answer(number, {"content": "a text", "isError": "maybe"})
        case "no_content":
            answer(number, {"hello": 1})
        case "refuse":
            text(number, "no such thing", isError=True)
        case "rpc_error":
            say({"jsonrpc": "2.0", "id": number, "error": {"code": -32000, "message": "it broke"}})
        case "rpc_invalid":
            say({"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": "no such argument"}})
        case "deep":
            nested = '{"a":' * 5000 + "1" + "}" * 5000
            sys.stdout.write(
                f'{{"jsonrpc":"2.0","id":{json.dumps(number)},"result":'
                f'{{"content":[],"structuredContent":{nested}}}}}\n'
            )
            sys.stdout.flush()
        case "nan":
            text(number, "", structuredContent={"value": float("nan")})
        case "surrogate":
            text(number, "half a pair: \ud800")
        case "big":
            text(number, "x" * 100_000)
        case "image":
            image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
            answer(number, {"content": [{"type": "text", "text": "look:"}, image]})
        case "structured":
            text(number, '{"b": 2}', structuredContent={"a": 1})
        case "json_text":
            text(number, '{"said": "' + said + '"}')
        case "change":
            TOOLS[0]["description"] = "Says something else."
            say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            text(number, "changed")
        case "orphan":
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
                (FOLDER / "orphan.new").write_text(str(os.getpid()), encoding="utf-8")
                (FOLDER / "orphan.new").rename(FOLDER / "orphan")  # whole, or not there
                time.sleep(3600)
            while not (FOLDER / "orphan").exists():
                time.sleep(0.01)
            text(number, "left one")
        case "ask":
            say({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {"messages": []}})
            reply = json.loads(sys.stdin.readline())
            text(number, "refused" if "error" in reply else "answered")
        case "late_twice":
            text(number, "first")
            text(number, "second")
        case _:
            say({"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": f"no tool {name}"}})


def main() -> None:
    with (FOLDER / "pids").open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    if MODE == "dies":
        sys.exit("cannot start")
    if MODE == "silent":
        time.sleep(3600)
    if MODE == "deaf":
        os.close(0)
        time.sleep(3600)
    if MODE == "floods":
        while True:
            sys.stdout.write("x" * 65536)
    if MODE == "no_mcp":
        print("Welcome to the shell!", flush=True)
    for line in sys.stdin:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if MODE == "no_mcp":
            print("command not found", flush=True)
        elif method == "initialize":
            answer(
                number,
                {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {"listChanged": True}},
                    "serverInfo": {"name": "hostile", "version": "1"},
                },
            )
        elif method == "tools/list":
            answer(number, listing(params.get("cursor")))
        elif method == "tools/call":
            call(number, params["name"], params.get("arguments") or {})
        elif number is not None:
            say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "unknown method"}})


def listing(cursor: str | None) -> dict[str, Any]:
    if MODE == "endless":
        return {"tools": TOOLS[:1], "nextCursor": str(int(cursor or 0) + 1)}
    if MODE == "pages":
        at = int(cursor or 0)
        return {"tools": TOOLS[at : at + 5], **({"nextCursor": str(at + 5)} if at + 5 < len(TOOLS) else {})}
    if MODE == "many":
        return {"tools": [{**TOOLS[0], "name": f"echo{index}"} for index in range(600)]}
    odd: dict[str, Any] = {
        "no_object": {"type": "array"},
        "no_schema": {"type": "object", "properties": {"a": {"type": 7}}},
        "big_schema": {"type": "object", "description": "x" * 40_000},
        "deep_schema": {"type": "object", "properties": nested(60)},
    }
    if MODE in odd:
        return {"tools": [*TOOLS[:1], {"name": "odd", "inputSchema": odd[MODE]}]}
    if MODE == "alike":
        return {"tools": [{**TOOLS[0], "name": "a.b"}, {**TOOLS[0], "name": "a/b"}]}
    if MODE == "names":
        return {"tools": [{**TOOLS[0], "name": "calculator"}, {**TOOLS[0], "name": "files.read/é"}]}
    return {"tools": TOOLS}


def nested(depth: int) -> dict[str, Any]:
    return {"a": {"type": "object", "properties": nested(depth - 1)}} if depth else {}


main()
