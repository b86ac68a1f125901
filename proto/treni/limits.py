"""What a message, a conversation and a server may hold: each limit stated once, and refused in its own words.

`python -m treni.limits` prints the table of docs/limits.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from treni.errors import Code, TreniError


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The bound of `most` of `what` at `where`; who brings more is refused with `code` and `kind`, and not done."""

    kind: str
    most: int
    what: str
    where: str
    todo: str
    code: Code = Code.INVALID_ARGUMENT

    def check(self, count: int) -> None:
        """Raises the limit's error where `count` is over it."""
        if count > self.most:
            raise self.exceeded(f"{count}")

    def exceeded(self, got: str) -> TreniError:
        """The error that tells a caller of the limit and of what was `got` instead."""
        return TreniError(
            self.code,
            self.kind,
            expected=f"at most {self.most} {self.what}",
            got=got,
            todo=self.todo,
            definite=True,
        )


def _request(service: str, most: int) -> Limit:
    return Limit(
        kind="request_too_large",
        most=most,
        what=f"bytes in a request of the {service}",
        where=f"{service}, and its clients before they send",
        todo="send less at once",
    )


AGENT_REQUEST = _request("AgentService", 512 * 1024)
MODEL_REQUEST = _request("InferenceService", 128 * 1024)
TOOL_REQUEST = _request("ToolService", 128 * 1024)
HTTP_REQUEST = Limit(
    kind="request_too_large",
    most=512 * 1024,
    what="bytes in a body of the HTTP front",
    where="the HTTP front of the runtime",
    todo="send less at once",
    code=Code.OUT_OF_RANGE,
)
HTTP_CONNECTIONS = Limit(
    kind="too_many_connections",
    most=512,
    what="connections of the HTTP front",
    where="the HTTP front of the runtime",
    todo="close some, or retry after a backoff",
    code=Code.RESOURCE_EXHAUSTED,
)
OTHER_REQUEST = Limit(
    kind="request_too_large",
    most=64 * 1024,
    what="bytes in a request of any other service",
    where="health, reflection and whatever else is served",
    todo="send less at once",
)


def request_limit(method: str) -> Limit:
    """The limit of a request of this method ("/package.Service/Method"), by its service."""
    service = method.strip("/").partition("/")[0].rpartition(".")[2]
    known = {"AgentService": AGENT_REQUEST, "InferenceService": MODEL_REQUEST, "ToolService": TOOL_REQUEST}
    return known.get(service, OTHER_REQUEST)


ANSWER_BYTES = 4 * 1024 * 1024
"""The longest message that a server sends and a client takes."""

HEADER_BYTES = 16 * 1024
"""The most that the headers of a call, or of its answer, hold, each counted with its name and 32 bytes more."""

TOOL_RESULT = Limit(
    kind="tool_result_too_large",
    most=64 * 1024,
    what="bytes in a tool's result",
    where="ToolService.Call and the tools of the internal arm",
    todo="ask for less",
    code=Code.OUT_OF_RANGE,
)
TOOLS = Limit(
    kind="tools_too_many",
    most=128,
    what="tools offered at once",
    where="AgentService.Run, InferenceService.Generate",
    todo="offer those that the task needs",
)
USER_TURNS = Limit(
    kind="user_turns_too_many",
    most=64,
    what="user turns in a run",
    where="AgentService.Run, and the tasks of suites",
    todo="spread them over several runs",
)
MESSAGES = Limit(
    kind="messages_too_many",
    most=1024,
    what="messages in a conversation",
    where="InferenceService.Generate",
    todo="shorten the conversation",
)
TOOL_CALLS = Limit(
    kind="tool_calls_too_many",
    most=1024,
    what="tool calls in a conversation",
    where="InferenceService.Generate",
    todo="shorten the conversation",
)
NEW_TOKENS = Limit(
    kind="max_new_tokens_too_large",
    most=65_536,
    what="tokens to generate",
    where="InferenceService.Generate",
    todo="ask for fewer, or for 0, which takes the service's default",
)
CALLS_IN_FLIGHT = Limit(
    kind="too_many_calls",
    most=256,
    what="calls of one method at once",
    where="every method of every server, and every path of the HTTP front",
    todo="send fewer at once, or retry after a backoff",
    code=Code.RESOURCE_EXHAUSTED,
)

CONNECTIONS = 768
"""How many connections a server has at once; one more is closed as it comes, before a word of it is read."""

HANDSHAKE_LIMIT_S = 30
"""How long a connection may take until it has said what a handshake needs; then the server closes it."""


ALL = (
    AGENT_REQUEST,
    MODEL_REQUEST,
    TOOL_REQUEST,
    HTTP_REQUEST,
    HTTP_CONNECTIONS,
    OTHER_REQUEST,
    TOOL_RESULT,
    TOOLS,
    USER_TURNS,
    MESSAGES,
    TOOL_CALLS,
    NEW_TOKENS,
    CALLS_IN_FLIGHT,
)
"""Every limit, in the order of docs/limits.md."""


def table() -> str:
    """The limits as docs/limits.md lists them, in Markdown."""
    rows = [
        f"| {limit.most:,} | {limit.what} | {limit.where} | {limit.code.name} `{limit.kind}` |"
        for limit in ALL
    ]
    head = ["| at most | of | where | refused with |", "| ---: | --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
