"""The source of an MCP server's tools: `mcp:COMMAND` for one that is a process, `mcp:URL` for one that is served."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from urllib.parse import urlsplit

from tools_svc.protocol import OpenSource, SourceEntry, Tool, ToolsConfig
from tools_svc.suggest import clip
from treni.errors import Code, TreniError, invalid_argument


def _check(argument: str | None) -> None:
    """Raises INVALID_ARGUMENT for what is neither a URL nor a command, FAILED_PRECONDITION without the SDK."""
    if argument is None or not argument.strip():
        raise _invalid("a command or a URL after mcp:", "nothing")
    if _is_url(argument):
        _check_url(argument)
    else:
        _command(argument)
    if find_spec("mcp") is None:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "mcp_missing",
            expected="the package mcp for tools of an MCP server",
            got="none of that name",
            todo="pip install 'treni-route[mcp]', on every host whose roles have tools",
        )


def _is_url(argument: str) -> bool:
    return argument.startswith(("http://", "https://"))


def _check_url(argument: str) -> None:
    try:
        url = urlsplit(argument)
        named, secret = bool(url.hostname), url.username is not None or url.password is not None
        _ = url.port
    except ValueError as error:
        raise _invalid("a URL", str(error)) from None
    if not named:
        raise _invalid("a URL with a host", repr(clip(argument)))
    if secret:
        raise _invalid("a URL without a user and a password, which every report would show", "one with them")


def _command(argument: str) -> list[str]:
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise _invalid("a command as a shell takes it", f"{clip(argument)!r}: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise _invalid("a command that is on this machine", repr(clip(words[0] if words else argument)))
    return words


def _invalid(expected: str, got: str) -> TreniError:
    return invalid_argument("tool_source_invalid", expected=expected, got=got, todo="correct --tools")


def _open(argument: str | None, config: ToolsConfig) -> OpenSource:
    """Connects to the server and reads its tools."""
    from tools_svc.mcp.connection import (
        Connection,  # the SDK takes most of a second: only where it is asked for
    )
    from tools_svc.mcp.http import http_transport
    from tools_svc.mcp.stdio import stdio_transport
    from tools_svc.mcp.tool import McpTool
    from tools_svc.mcp.translate import fit_name, repeatable, spec_of
    from tools_svc.memory import CallMemory

    assert argument is not None
    transport = (
        partial(http_transport, argument)
        if _is_url(argument)
        else partial(stdio_transport, _command(argument))
    )
    connection = Connection(f"the MCP server {clip(argument)!r}", transport, probe=_is_url(argument))
    try:
        server, listed = connection.open()
        specs = tuple(spec_of(tool, fit_name(tool.name)) for tool in listed)
        _refuse_alike([spec.name for spec in specs])
        keeps = any(spec.has_side_effects for spec in specs)
        memory = CallMemory(config.memory_path) if keeps else None
    except BaseException:
        connection.close()
        raise

    def built(names: Mapping[str, str]) -> list[Tool]:
        return [
            McpTool(
                connection=connection,
                tool=tool,
                spec=spec_of(tool, names.get(spec.name, spec.name)),
                memory=None if repeatable(tool) else memory,
            )
            for tool, spec in zip(listed, specs, strict=True)
        ]

    def close() -> None:
        connection.close()
        if memory is not None:
            memory.close()

    return OpenSource(label=fit_name(server or "mcp"), specs=specs, tools=built, close=close)


def _refuse_alike(names: list[str]) -> None:
    """Raises INVALID_ARGUMENT where two tools of one server have one name, as models take names."""
    for name in names:
        if names.count(name) > 1:
            raise invalid_argument(
                "tool_name_taken",
                expected="tools of an MCP server whose names differ in letters, digits, _ and -",
                got=f"{name!r} more than once",
                todo="mend the server, or leave it out",
            )


ENTRY = SourceEntry(name="mcp", check=_check, open=_open)
