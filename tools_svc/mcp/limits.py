"""How much an MCP server may send and how long it may take: what is more is a typed error of its call."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""The longest message: a result of ours holds 64 KiB, a listing of many tools with their schemas some more."""

MAX_UNASKED_BYTES = 16 * 1024 * 1024
"""How much a server may send between two answers that answers nothing: whoever sends more is flooding."""

OPEN_S = 120.0
"""How long a server may take to start and to list its tools: one that is fetched first takes its time."""

CALL_S = 60.0
"""How long a call may take, whoever waits for it: what takes longer is given up."""

PING_S = 5.0
"""How long a server may take to answer a ping after a call that it did not answer: else it hangs, and is ended."""

MAX_STARTS, STARTS_WITHIN_S = 5, 60.0
"""A server that dies is started again for the next call, so often in so many seconds."""

MAX_TOOLS = 512
"""How many tools one server may list."""

MAX_SCHEMA_BYTES = 32 * 1024
MAX_SCHEMA_DEPTH = 32
MAX_DESCRIPTION_BYTES = 8 * 1024
