"""Makes the contract's messages of a conversation: results by their ids, in the order of the calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runtime_svc.http_front.errors import ParameterError
from runtime_svc.http_front.messages import (
    AssistantMessage,
    Call,
    Message,
    SystemMessage,
    ToolMessage,
    UserMessage,
    text_of,
)
from treni.v1 import common_pb2


def contract_messages(messages: Iterable[Message]) -> Iterator[common_pb2.Message]:
    """The conversation in the contract's words, which has names where OpenAI has ids.

    The results of a turn's calls follow it in the order of the calls, whichever order they came in: a chat template
    knows them by that alone. Raises `ParameterError` where a result answers no call of the turn before it or one that
    has a result, and where a call has none.
    """
    waiting = _Waiting()
    for index, message in enumerate(messages):
        at = f"messages[{index}]"
        if isinstance(message, ToolMessage):
            waiting.answer(at, message)
            continue
        yield from waiting.answered()
        if isinstance(message, AssistantMessage):
            waiting.ask(at, message.tool_calls or ())
            yield common_pb2.Message(
                role="assistant",
                content=text_of(message.content),
                thinking=message.reasoning_content or "",
                name=message.name or "",
                tool_calls=[
                    common_pb2.ToolCall(name=call.function.name, arguments_json=call.function.arguments)
                    for call in message.tool_calls or ()
                ],
            )
        else:
            yield _said(message)
    yield from waiting.answered()


def _said(message: SystemMessage | UserMessage) -> common_pb2.Message:
    role = "user" if isinstance(message, UserMessage) else "system"
    return common_pb2.Message(role=role, content=text_of(message.content), name=message.name or "")


class _Waiting:
    """The calls of the last assistant's turn, and their results so far."""

    def __init__(self) -> None:
        self._at = ""
        self._calls: dict[str, Call] = {}
        self._results: dict[str, ToolMessage] = {}

    def ask(self, at: str, calls: Iterable[Call]) -> None:
        """Begins anew with the calls of the turn at `at`."""
        self._at = at
        for index, call in enumerate(calls):
            if call.id in self._calls:
                raise ParameterError(
                    "tool_call_id_repeated",
                    param=f"{at}.tool_calls[{index}].id",
                    expected="an id of its own for every call of a turn",
                    got=f"{call.id!r} again",
                    todo="correct the request",
                )
            self._calls[call.id] = call

    def answer(self, at: str, result: ToolMessage) -> None:
        """Takes in the result of one of the calls."""
        call = self._calls.get(result.tool_call_id)
        if call is None or call.id in self._results:
            raise ParameterError(
                "tool_call_id_unknown" if call is None else "tool_call_id_repeated",
                param=f"{at}.tool_call_id",
                expected="the id of a call of the assistant's turn before, which has no result yet",
                got=repr(result.tool_call_id),
                todo="send each result once, after the turn that called for it",
            )
        if result.name is not None and result.name != call.function.name:
            raise ParameterError(
                "parameters_conflict",
                param=f"{at}.name",
                expected=f"the name of the function that was called, {call.function.name!r}, or none",
                got=repr(result.name),
                todo="correct the request",
            )
        self._results[call.id] = result

    def answered(self) -> Iterator[common_pb2.Message]:
        """The results of all calls, in their order; then nothing waits any longer."""
        for id_, call in self._calls.items():
            result = self._results.get(id_)
            if result is None:
                raise ParameterError(
                    "tool_result_missing",
                    param=self._at,
                    expected=f"a tool message with a result for the call {id_!r} after it",
                    got="none",
                    todo="send a result for every call of the turn",
                )
            yield common_pb2.Message(
                role="tool", content=text_of(result.content), tool_name=call.function.name
            )
        self._calls, self._results = {}, {}
