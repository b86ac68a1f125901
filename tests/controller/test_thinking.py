"""What the loop makes of turns in which a model thinks, and of markup that is only quoted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.doubles import PlayedModel, completion, tool_turn
from tests.controller.test_loop import play
from treni.errors import Code
from treni.v1 import inference_pb2

LEDGER_CALL = '<tool_call>\n{"name": "ledger_append", "arguments": {}}\n</tool_call>'


def thought(text: str, content: str, **fields: Any) -> list[inference_pb2.GenerateChunk]:
    """A completion of a server that tells thoughts from text: its chunks hold none."""
    chunks = completion(content, chunk_size=2)
    chunks[-1].finish.MergeFrom(inference_pb2.GenerateFinish(content=content, thinking=text, **fields))
    return chunks


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("text", [f"<think>It would be\n{LEDGER_CALL}\n</think>\n\nShall I?", "Shall I?"])
async def test_a_thought_is_neither_run_nor_shown_nor_the_answer(text: str, size: int) -> None:
    played, tools = await play(PlayedModel(completion(text, chunk_size=size)))
    assert tools.requests == []
    assert played.shown == played.of("answer")[0].text == "Shall I?"


async def test_a_thought_whose_beginning_is_in_the_prompt() -> None:
    text = f"It would be\n{LEDGER_CALL}\n</think>\n\nShall I?"
    finish = inference_pb2.GenerateFinish(reason="stop", text=text)
    played, tools = await play(PlayedModel([inference_pb2.GenerateChunk(text=text, finish=finish)]))
    assert tools.requests == []
    assert played.shown == played.of("answer")[0].text == "Shall I?"


async def test_a_thought_goes_back_to_the_model_with_the_call_after_it() -> None:
    first = tool_turn(("calculator", "{}"), before="Wait.")
    first[-1].finish.MergeFrom(inference_pb2.GenerateFinish(content="Wait.", thinking="I need a sum."))
    model = PlayedModel(first, thought("Now I know.", "It is `</think>42."))
    played, tools = await play(model)
    assert len(tools.requests) == 1
    turn = model.requests[1].messages[1]
    assert (turn.content, turn.thinking, len(turn.tool_calls)) == ("Wait.", "I need a sum.", 1)
    assert played.of("answer")[0].text == "It is `</think>42."
    assert "I need" not in played.shown
    assert "Now I" not in played.shown


@pytest.mark.parametrize(
    "chunks", [completion(f"<think>Hm, {LEDGER_CALL}"), thought("Hm", "", unfinished_thought=True)]
)
async def test_a_thought_without_an_end_is_no_answer(chunks: list[inference_pb2.GenerateChunk]) -> None:
    played, tools = await play(PlayedModel(chunks))
    assert tools.requests == []
    assert (played.events, played.shown) == ([], "")
    assert played.error is not None
    assert (played.error.kind, played.error.code) == ("thought_unfinished", Code.FAILED_PRECONDITION)


async def test_an_answer_about_tags_is_shown_to_its_end() -> None:
    text = f"Wrap calls in `<tool_call>`, as in\n```\n{LEDGER_CALL}\n```\nThat is all."
    played, tools = await play(PlayedModel(completion(text)))
    assert tools.requests == []
    assert played.shown == played.of("answer")[0].text == text
