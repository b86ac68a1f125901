"""What training reads: conversations whose every call is right and offered, and batches of a few shapes."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from runtime_svc.training import batches
from runtime_svc.training.conversations import conversation
from runtime_svc.training.corpus import Encoder
from runtime_svc.training.dialogue import tool_name
from runtime_svc.training.evaluate import CHECKPOINT
from runtime_svc.training.generator import MAX_TOOLS, NO_TOOL, generate

SEEDS = st.integers(0, 2**32)
INDEXES = st.integers(0, 10**6)


@given(seed=SEEDS, index=INDEXES)
@settings(max_examples=300)
def test_every_call_is_of_an_offered_tool_and_fits_its_schema(seed: int, index: int) -> None:
    read = conversation(seed, index)
    offered = {tool_name(spec): spec["function"]["parameters"] for spec in read.tools}
    assert len(offered) == len(read.tools) <= MAX_TOOLS
    assert 1 <= len(read.exchanges) <= 3
    for _, steps, _ in read.exchanges:
        for step in steps:
            schema = offered[step.name]
            assert set(schema["required"]) <= set(step.arguments) <= set(schema["properties"])


def test_conversations_are_a_function_of_their_number_and_never_an_evaluated_dialogue() -> None:
    assert conversation(3, 7) == conversation(3, 7)
    asked = {prompt for index in range(2000) for prompt, _, _ in conversation(1, index).exchanges}
    held = [generate(1, index, "values") for index in range(2000)]
    both = [dialogue.prompt for dialogue in held if dialogue.steps and dialogue.prompt in asked]
    # Single digits are in both parts, and a prompt may have no other value ("What is 3 + 4?").
    assert all(len(number) == 1 for prompt in both for number in re.findall(r"\d+", prompt))
    assert len(both) < 10


def test_a_request_that_no_tool_fits_is_refused_and_its_tool_is_not_offered_for_the_others() -> None:
    refused = [read for read in (conversation(5, index) for index in range(1500))
               if any(answer == NO_TOOL for _, _, answer in read.exchanges)]  # fmt: skip
    assert len(refused) > 100
    for read in refused:
        assert all(not steps for _, steps, answer in read.exchanges if answer == NO_TOOL)


def test_batches_have_one_of_the_lengths_and_lose_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK", 96)
    encoder = Encoder(Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")))
    rows = [encoder.encode(conversation(2, index)) for index in range(96)]
    kept = [(ids, mask) for ids, mask in rows if len(ids) <= batches.LENGTHS[-1]]
    made = batches.chunk(encoder, 2, 0, 4096)
    for ids, mask in made:
        assert ids.shape == mask.shape
        assert ids.shape[1] in batches.LENGTHS
        assert ids.shape[0] == max(1, 4096 // ids.shape[1])
    assert sum(int(mask.sum()) for _, mask in made) == sum(int(mask.sum()) for _, mask in kept)
    assert sum(int((ids != 0).sum()) for ids, _ in made) == sum(int((ids != 0).sum()) for ids, _ in kept)


def test_the_assistants_tokens_are_the_calls_and_the_answers() -> None:
    encoder = Encoder(Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")))
    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    read = conversation(8, 3)
    ids, mask = encoder.encode(read)
    learnt = tokenizer.decode(np.asarray(ids)[mask].tolist(), skip_special_tokens=False)
    for _, steps, answer in read.exchanges:
        assert answer in learnt
        for step in steps:
            assert json.dumps(step.name) in learnt
