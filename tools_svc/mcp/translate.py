"""What MCP says, as ours: a tool's listing as a `ToolSpec`, a result as an object, an error as a `TreniError`."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import jsonschema
import mcp_types as types

from tools_svc.arguments import decode
from tools_svc.mcp.limits import MAX_DESCRIPTION_BYTES, MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH
from tools_svc.protocol import to_json
from tools_svc.suggest import clip
from treni.errors import Code, TreniError, invalid_argument
from treni.v1.common_pb2 import ToolSpec

FIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names of tools that every model and interface takes."""

_REFUSALS = (types.INVALID_PARAMS, types.METHOD_NOT_FOUND)


def fit_name(name: str) -> str:
    """The name with an underscore for each character that models do not take, and at most 64 of them."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "_"


def spec_of(tool: types.Tool, name: str) -> ToolSpec:
    """The tool as the model sees it, under that name; one that does not say that it only reads has side effects.

    Raises INVALID_ARGUMENT (`mcp_tool_unusable`), which names the tool, for a schema or a description that none of
    ours could be.
    """
    schema = tool.input_schema
    if schema.get("type") != "object":
        raise _unusable(tool, 'an input schema of type "object"', repr(schema.get("type")))
    if not isinstance(schema.get("properties", {}), dict):
        raise _unusable(tool, "properties that are an object", repr(schema["properties"]))
    if _depth(schema) > MAX_SCHEMA_DEPTH:
        raise _unusable(tool, f"an input schema of at most {MAX_SCHEMA_DEPTH} levels", "more")
    try:
        text = to_json(schema)
        size, described = len(text.encode()), len((tool.description or "").encode())
    except ValueError as error:  # NaN, or half a surrogate pair
        raise _unusable(
            tool, "an input schema and a description of Unicode text and JSON", str(error)
        ) from None
    if size > MAX_SCHEMA_BYTES:
        raise _unusable(tool, f"an input schema of at most {MAX_SCHEMA_BYTES} bytes", f"{size}")
    if described > MAX_DESCRIPTION_BYTES:
        raise _unusable(tool, f"a description of at most {MAX_DESCRIPTION_BYTES} bytes", f"{described}")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise _unusable(tool, "an input schema that is a JSON schema", error.message) from None
    only_reads = tool.annotations is not None and tool.annotations.read_only_hint is True
    return ToolSpec(
        name=name,
        description=tool.description or "",
        parameters_json=text,
        has_side_effects=not only_reads,
    )


def _unusable(tool: types.Tool, expected: str, got: str) -> TreniError:
    return invalid_argument(
        "mcp_tool_unusable",
        expected=f"the tool {clip(tool.name)!r} of the MCP server to have {expected}",
        got=clip(got),
        todo="mend the server, or leave it out",
    )


def _depth(value: Any) -> int:
    deepest, pending = 0, [(value, 1)]
    while pending:
        one, depth = pending.pop()
        deepest = max(deepest, depth)
        if isinstance(one, dict | list):
            pending += [(child, depth + 1) for child in (one.values() if isinstance(one, dict) else one)]
    return deepest


def repeatable(tool: types.Tool) -> bool:
    """Whether the server says that a repeat of the call changes nothing more."""
    notes = tool.annotations
    return notes is not None and (notes.read_only_hint is True or notes.idempotent_hint is True)


def digest_of(tool: types.Tool) -> str:
    """What must stay the same about a tool for as long as it is used."""
    kept = [tool.name, tool.description or "", tool.input_schema, repeatable(tool)]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def result_of(answer: types.CallToolResult) -> dict[str, Any]:
    """The result as an object: the structured content, or a text that is a JSON object, or `{"text": ...}`.

    What is no text is described under "other" (its type, media type and size), not passed on. Raises ValueError for
    what JSON or Unicode has no form for.
    """
    result = _object_of(answer)
    to_json(result).encode()
    return result


def _object_of(answer: types.CallToolResult) -> dict[str, Any]:
    structured = answer.structured_content
    if structured is not None:
        return structured if isinstance(structured, dict) else {"result": structured}
    text = "\n".join(filter(None, map(_text_of, answer.content)))
    other = [_described(block) for block in answer.content if _text_of(block) is None]
    if not other and text.startswith("{"):
        try:
            return decode(text)
        except TreniError:
            pass  # a text that only looks like an object
    return {"text": text} | ({"other": other} if other else {})


def _text_of(block: types.ContentBlock) -> str | None:
    match block:
        case types.TextContent():
            return block.text
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return resource.text
        case _:
            return None


def _described(block: types.ContentBlock) -> dict[str, Any]:
    match block:
        case types.ImageContent() | types.AudioContent():
            return {"type": block.type, "media_type": block.mime_type, "base64_bytes": len(block.data)}
        case types.EmbeddedResource(resource=types.BlobResourceContents() as resource):
            size = len(resource.blob)
            return {"type": "blob", "media_type": resource.mime_type or "", "base64_bytes": size}
        case types.ResourceLink():
            return {"type": "resource_link", "uri": clip(str(block.uri)), "name": clip(block.name)}
        case _:
            return {"type": clip(str(block.type))}


def refusal_of(name: str, answer: types.CallToolResult) -> TreniError:
    """The error of a result that the server marks as one: the tool's own refusal, which the model reads."""
    text = " ".join(filter(None, map(_text_of, answer.content))) or "an error without words"
    return TreniError(
        Code.INVALID_ARGUMENT,
        "mcp_tool_error",
        expected=f"{name} to do what it is asked for",
        got=text.encode("utf-8", "replace").decode(),
        todo="correct the call, or answer without it",
    )


def error_of(name: str, error: types.ErrorData) -> TreniError:
    """The error of a call that the server answered with a JSON-RPC error: refused, or failed in its midst."""
    if error.code in _REFUSALS:
        return TreniError(
            Code.INVALID_ARGUMENT,
            "mcp_call_refused",
            expected=f"the MCP server to take the call of {name}",
            got=f"{error.code}: {error.message}",
            todo="correct the call",
        )
    return TreniError(
        Code.UNAVAILABLE,
        "mcp_error",
        expected=f"the MCP server to answer the call of {name}",
        got=f"{error.code}: {error.message}",
        todo="see the server's own log; the work may have happened",
    )


def lost(name: str, why: str, *, definite: bool = False) -> TreniError:
    """The error of a call whose server went away before it answered; `definite`: the call never reached it."""
    return TreniError(
        Code.UNAVAILABLE,
        "mcp_server_lost",
        expected=f"the MCP server to answer the call of {name}",
        got=why,
        todo="see the server's own log; the next call finds it again, if it is there",
        definite=definite,
    )


def late(name: str, waited_s: float) -> TreniError:
    """The error of a call that was not answered for as long as its caller waits."""
    return TreniError(
        Code.DEADLINE_EXCEEDED,
        "mcp_timeout",
        expected=f"the MCP server to answer the call of {name} within {waited_s:.3g} s",
        got="no answer to it",
        todo="allow it more time; the work may have happened",
    )


def malformed(name: str, why: str) -> TreniError:
    """The error of a call that was answered with what no result of a tool is."""
    return TreniError(
        Code.UNAVAILABLE,
        "mcp_answer_malformed",
        expected=f"a result of {name} as MCP describes it",
        got=clip(why),
        todo="mend the server; the work may have happened",
    )


def changed(name: str, how: str) -> TreniError:
    """The error of a call, not made, of a tool that is no longer what it was when its server was opened."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        "mcp_tools_changed",
        expected=f"{name} to stay as it was when the MCP server was opened",
        got=how,
        todo="restart the role, so that it reads the tools anew",
    )
