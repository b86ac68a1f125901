"""The chat template: the same text in training and in the engine, each prompt a continuation of the last."""

import json

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.provenance import written
from runtime_svc.tokens.tokenizer import Tokenizer
from runtime_svc.training.corpus import TEMPLATE, Encoder, render, text_of
from runtime_svc.training.dialogue import Dialogue
from runtime_svc.training.evaluate import CHECKPOINT
from runtime_svc.training.generator import SPLITS, generate
from treni.v1 import common_pb2

DIALOGUES = [generate(31, index, split) for split in SPLITS for index in range(60)]


def _protobuf(dialogue: Dialogue) -> tuple[list[common_pb2.Message], list[common_pb2.ToolSpec]]:
    tools = [
        common_pb2.ToolSpec(
            name=spec["function"]["name"],
            description=spec["function"]["description"],
            parameters_json=json.dumps(spec["function"]["parameters"]),
        )
        for spec in dialogue.tools
    ]
    messages = []
    for turn in dialogue.messages():
        calls = [
            common_pb2.ToolCall(name=call["function"]["name"], arguments_json=call["function"]["arguments"])
            for call in turn.get("tool_calls", [])
        ]
        messages.append(common_pb2.Message(role=turn["role"], content=turn["content"], tool_calls=calls))
    return messages, tools


def test_the_checkpoint_has_the_template_it_was_trained_with() -> None:
    assert (CHECKPOINT / "chat_template.jinja").read_bytes() == TEMPLATE.read_bytes()


def test_the_engine_renders_what_training_rendered() -> None:
    template = ChatTemplate(CHECKPOINT)
    for dialogue in DIALOGUES:
        messages, tools = _protobuf(dialogue)
        assert template.render(messages[:-1], tools) == render(
            dialogue.messages()[:-1], dialogue.tools, prompt=True
        )


def test_every_prompt_continues_the_text_before_it() -> None:
    for dialogue in DIALOGUES:
        turns, whole = dialogue.messages(), text_of(dialogue)
        for at, turn in enumerate(turns):
            if turn["role"] == "assistant":
                assert whole.startswith(render(turns[:at], dialogue.tools, prompt=True))


def test_tokens_of_a_prompt_continue_the_tokens_before_it() -> None:
    tokenizer = Tokenizer(CHECKPOINT)
    for dialogue in DIALOGUES:
        turns, whole = dialogue.messages(), tokenizer.encode(written(text_of(dialogue)))
        for at, turn in enumerate(turns):
            if turn["role"] == "assistant":
                prompt = tokenizer.encode(written(render(turns[:at], dialogue.tools, prompt=True)))
                assert whole[: len(prompt)] == prompt


def test_the_learnt_tokens_are_the_assistants_words() -> None:
    tokenizer = HuggingFaceTokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    encoder = Encoder(tokenizer)
    for dialogue in DIALOGUES[:40]:
        ids, mask = encoder.encode(dialogue)
        text = tokenizer.decode(ids[mask].tolist(), skip_special_tokens=False)
        assert text.count("<|im_end|>") == len(dialogue.steps) + 1
        assert text.endswith(f"{dialogue.answer}<|im_end|>")


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(Exception, match="expected a role among"):
        render([{"role": "wizard", "content": "x"}], (), prompt=True)
