"""A streamed answer says what the whole one says, however its text is cut into chunks."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.http_front.chat import _Answer
from runtime_svc.http_front.requests import ChatRequest
from runtime_svc.toolcalls import parse_blocks
from tests.runtime_svc.http_front.front import asking
from treni.markup import read
from treni.v1 import common_pb2, inference_pb2

CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
PIECES = st.sampled_from(
    ["Sure.", "\n", " ", "a", "`", "```\n", "<tool", "<tool_call>", "</tool_call>", CALL, f"`{CALL}`", "{"]
)


@given(st.lists(PIECES, max_size=8).map("".join), st.data())
def test_a_stream_says_what_the_whole_answer_says(text: str, data: st.DataObject) -> None:
    reading = read(text)
    parsed = parse_blocks(reading.blocks)
    finish = inference_pb2.GenerateFinish(
        reason="tool_calls" if parsed.calls else "stop",
        text=text,
        content=reading.content,
        tool_calls=parsed.calls,
        malformed_tool_call=parsed.malformed,
        usage=common_pb2.Usage(prompt_tokens=1, completion_tokens=1),
        backend="numpy",
    )
    chat = ChatRequest.model_validate(asking("x", stream=True))
    request = inference_pb2.GenerateRequest()
    whole = json.loads(bytes(_Answer(chat, request, "m").whole(finish).body))["choices"][0]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    *first, last = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    chunks = [inference_pb2.GenerateChunk(text=part) for part in first]
    answer = _Answer(chat, request, "m")
    events = b"".join(map(answer.events, [*chunks, inference_pb2.GenerateChunk(text=last, finish=finish)]))
    answer.check_ended()
    *lines, done = events.decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    choices = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]
    said = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert said == (whole["message"]["content"] or "")
    calls = [call["function"] for choice in choices for call in choice["delta"].get("tool_calls") or ()]
    assert calls == [call["function"] for call in whole["message"].get("tool_calls") or ()]
    assert [choice["finish_reason"] for choice in choices][-1] == whole["finish_reason"]
