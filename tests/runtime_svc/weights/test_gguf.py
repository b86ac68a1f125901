"""GGUF files: the model of the directory with the same weights, or an error that names what is wrong with them."""

import dataclasses
import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_svc.backends.numpy.weights import read_weights
from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape
from runtime_svc.weights.gguf_file import read_gguf
from runtime_svc.weights.gguf_tensors import stored_tensors
from runtime_svc.weights.opening import open_checkpoint
from tests.runtime_svc.gguf_files import Entry, Q, write_gguf, write_twin
from tests.runtime_svc.requests import generate_request, message, tool
from tests.runtime_svc.test_damage import ANSWERING, LOADING, Damage, damage, damaged, outcome
from treni.errors import Code, TreniError

SMALL = Shape(model_type="llama", hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96)
U32, F32, TEXT, BOOL = (
    gguf.GGUFValueType.UINT32,
    gguf.GGUFValueType.FLOAT32,
    gguf.GGUFValueType.STRING,
    gguf.GGUFValueType.BOOL,
)
EXAMPLES = int(os.environ.get("TRENI_DAMAGE_EXAMPLES", "60"))


def same_weights(first: Path, second: Path) -> None:
    mine, theirs = read_weights(open_checkpoint(first)), read_weights(open_checkpoint(second))
    for name in ("embedding", "final_gain", "head"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
    for one, other in zip(mine.layers, theirs.layers, strict=True):
        for field in dataclasses.fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            assert (a is None) == (b is None), field.name
            if a is not None:
                np.testing.assert_array_equal(a, b, err_msg=field.name)


def text(path: Path, prompt: str = "hello there") -> tuple[list[int], str]:
    *_, last = Engine.load(path, slots=8).generate(generate_request(prompt, max_new_tokens=16))
    return [token.id for token in last.finish.tokens], last.finish.text


def refused(path: Path, kind: str, *words: str) -> None:
    with pytest.raises(TreniError) as caught:
        Engine.load(path, slots=8)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.kind == kind, caught.value
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", [Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_it_is_the_model_of_the_directory_with_the_same_weights(
    tmp_path: Path, model_type: str, kind: gguf.GGMLQuantizationType
) -> None:
    shape = dataclasses.replace(SMALL, model_type=model_type, tied=kind is not Q.Q8_0)
    path = write_gguf(tmp_path / "model.gguf", shape, seed=3, kind=kind)
    twin = write_twin(tmp_path / "twin", shape, seed=3, kind=kind)
    same_weights(path, twin)
    mine, theirs = open_checkpoint(path), open_checkpoint(twin)
    assert mine.config == theirs.config
    assert mine.parameters == theirs.parameters
    stored = {Q.F32: "float32", Q.F16: "float16", Q.BF16: "bfloat16"}.get(kind, kind.name.lower())
    assert mine.stored_dtype == "+".join(sorted({stored, "float32"}))
    for prompt in ("hello", "Größe: 12 €", "<tool_call>", "  spaces\n\n and 漢字"):
        assert text(path, prompt) == text(twin, prompt)


def test_what_is_told_of_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "small.Q4_1.gguf", SMALL, kind=Q.Q4_1)
    info = Engine.load(path, slots=8).info
    assert (info.model, info.dtype, info.context_length) == ("small.Q4_1.gguf", "float32+q4_1", 1024)
    assert len(info.checkpoint_sha256) == 64
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert Engine.load(path, slots=8).info.checkpoint_sha256 != info.checkpoint_sha256


@pytest.mark.parametrize(
    ("changes", "scaling"),
    [
        ({"llama.rope.scaling.type": ("none", TEXT)}, None),
        (
            {"llama.rope.scaling.type": ("linear", TEXT), "llama.rope.scaling.factor": (4.0, F32)},
            {"rope_type": "linear", "factor": 4.0},
        ),
        (
            {
                "llama.rope.scaling.type": ("yarn", TEXT),
                "llama.rope.scaling.factor": (4.0, F32),
                "llama.rope.scaling.original_context_length": (256, U32),
                "llama.rope.scaling.finetuned": (True, BOOL),
            },
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
        ),
    ],
)
def test_stretched_contexts(
    tmp_path: Path, changes: dict[str, Entry | None], scaling: dict[str, Any] | None
) -> None:
    path = write_gguf(tmp_path / "model.gguf", SMALL, changes=changes)
    twin = write_twin(tmp_path / "twin", SMALL, rope_scaling=scaling)
    assert open_checkpoint(path).config == open_checkpoint(twin).config
    assert text(path) == text(twin)


def test_factors_of_frequencies(tmp_path: Path) -> None:
    factors = np.array([1, 1, 2, 4, 8, 8, 8, 8], np.float32)
    path = write_gguf(tmp_path / "model.gguf", SMALL, tensors={"rope_freqs.weight": factors})
    plain = open_checkpoint(write_gguf(tmp_path / "plain.gguf", SMALL)).config.inverse_frequencies
    slowed = open_checkpoint(path).config.inverse_frequencies
    assert slowed == tuple(f / factor for f, factor in zip(plain, factors.tolist(), strict=True))
    for bad in (factors[:4], factors * 0, -factors, factors * np.nan):
        wrong = write_gguf(tmp_path / "wrong.gguf", SMALL, tensors={"rope_freqs.weight": bad})
        refused(wrong, "checkpoint_damaged", "rope_freqs.weight")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"llama.expert_count": (8, U32)}, "checkpoint_unsupported", ["llama.expert_count"]),
        ({"llama.attention.sliding_window": (4096, U32)}, "checkpoint_unsupported", ["sliding_window"]),
        ({"llama.attention.sliding_window": ([1, 2], None)}, "checkpoint_unsupported", ["sliding_window"]),
        ({"llama.logit_scale": (0.5, F32)}, "checkpoint_unsupported", ["llama.logit_scale"]),
        ({"llama.rope.scaling.type": ("longrope", TEXT)}, "checkpoint_unsupported", ["longrope"]),
        ({"llama.rope.dimension_count": (8, U32)}, "checkpoint_unsupported", ["rope.dimension_count"]),
        ({"llama.attention.value_length": (8, U32)}, "checkpoint_unsupported", ["value_length"]),
        ({"llama.vocab_size": (287, U32)}, "checkpoint_unsupported", ["vocab_size"]),
        ({"llama.attention.head_count": ([4, 4], None)}, "checkpoint_damaged", ["head_count"]),
        ({"llama.attention.head_count": (0, U32)}, "checkpoint_damaged", ["num_attention_heads"]),
        ({"llama.block_count": (3, U32)}, "checkpoint_missing", ["model.layers.2."]),
        ({"llama.block_count": (1, U32)}, "checkpoint_unsupported", ["blk.1."]),
        ({"llama.block_count": (2**32 - 1, U32)}, "checkpoint_damaged", ["num_hidden_layers"]),
        ({"llama.block_count": None}, "checkpoint_damaged", ["num_hidden_layers"]),
        ({"llama.block_count": ("two", TEXT)}, "checkpoint_damaged", ["block_count"]),
        ({"llama.block_count": (True, BOOL)}, "checkpoint_damaged", ["block_count"]),
        ({"llama.context_length": None}, "checkpoint_damaged", ["context_length"]),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "checkpoint_damaged", ["epsilon"]),
        ({"llama.rope.freq_base": (float("nan"), F32)}, "checkpoint_damaged", ["rope_theta"]),
        ({"llama.embedding_length": (32, U32)}, "checkpoint_damaged", ["of shape"]),
        ({"split.count": (2, gguf.GGUFValueType.UINT16)}, "checkpoint_unsupported", ["split.count 2"]),
        ({"split.count": ([1], None)}, "checkpoint_unsupported", ["split.count"]),
        (
            {"tokenizer.ggml.model": ("llama", TEXT)},
            "checkpoint_unsupported",
            ["tokenizer.ggml.model", "llama"],
        ),
        ({"tokenizer.ggml.model": None}, "checkpoint_unsupported", ["tokenizer.ggml.model"]),
        ({"tokenizer.ggml.model": ([1], None)}, "checkpoint_unsupported", ["tokenizer.ggml.model"]),
        (
            {"tokenizer.ggml.pre": ("tekken", TEXT)},
            "checkpoint_unsupported",
            ["tokenizer.ggml.pre", "tekken"],
        ),
        ({"tokenizer.ggml.pre": None}, "checkpoint_unsupported", ["tokenizer.ggml.pre"]),
        ({"tokenizer.ggml.tokens": None}, "checkpoint_damaged", ["tokenizer.ggml.tokens"]),
        ({"tokenizer.ggml.tokens": (["a", "a"] * 144, None)}, "checkpoint_damaged", ["'a' twice"]),
        ({"tokenizer.ggml.token_type": ([1, 1], None)}, "checkpoint_damaged", ["token_type"]),
        ({"tokenizer.ggml.token_type": ([9] * 288, None)}, "checkpoint_damaged", ["token_type"]),
        ({"tokenizer.ggml.merges": None}, "checkpoint_damaged", ["merges"]),
        ({"tokenizer.ggml.merges": (["a b c"], None)}, "checkpoint_damaged", ["merges", "a b c"]),
        ({"tokenizer.ggml.merges": (["a b"], None)}, "checkpoint_damaged", ["merges", "a b"]),
        ({"tokenizer.ggml.eos_token_id": (288, U32)}, "checkpoint_damaged", ["eos_token_id"]),
        (
            {"tokenizer.ggml.eos_token_id": None, "tokenizer.ggml.eot_token_id": None},
            "checkpoint_damaged",
            ["eos_token_id"],
        ),
        ({"tokenizer.chat_template": None}, "checkpoint_damaged", ["chat_template"]),
        ({"tokenizer.chat_template": ("{% for %}", TEXT)}, "checkpoint_damaged", ["chat template"]),
        ({"tokenizer.chat_template": ([1], None)}, "checkpoint_damaged", ["chat template"]),
        ({"general.alignment": (24, U32)}, "checkpoint_damaged", ["general.alignment"]),
    ],
)
def test_metadata_that_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, Entry | None], kind: str, words: list[str]
) -> None:
    refused(write_gguf(tmp_path / "model.gguf", SMALL, changes=changes), kind, *words)


def test_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    refused(write_gguf(tmp_path / "m.gguf", SMALL, architecture="gemma3"), "checkpoint_unsupported", "gemma3")


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.bias", "blk.0.attn_output.bias", "blk.0.attn_sinks", "cls.weight"]
)
def test_a_tensor_that_nobody_asked_for_is_named(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", SMALL, tensors={name: np.ones(64, np.float32)})
    refused(path, "checkpoint_unsupported", name, "LlamaForCausalLM")


def test_several_templates(tmp_path: Path) -> None:
    changes = {"tokenizer.chat_template.tool_use": ("TOOLS", TEXT)}
    engine = Engine.load(write_gguf(tmp_path / "model.gguf", SMALL, changes=changes), slots=8)
    assert engine.prompt(generate_request("hi", tools=[tool()])) == engine.tokenizer.encode("TOOLS")
    assert engine.prompt(generate_request("hi")) != engine.tokenizer.encode("TOOLS")


def test_the_ids_that_end_a_turn(tmp_path: Path) -> None:
    changes = {"tokenizer.ggml.eot_token_id": None, "tokenizer.ggml.eom_token_id": (257, U32)}
    assert open_checkpoint(write_gguf(tmp_path / "a.gguf", SMALL)).config.eos_ids == {256, 258}
    path = write_gguf(tmp_path / "b.gguf", SMALL, changes=changes)
    assert open_checkpoint(path).config.eos_ids == {256, 257}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file to damage copies of; its rows take several quantised blocks."""
    path = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    return write_gguf(path, dataclasses.replace(SMALL, layers=1), kind=Q.Q4_1)


TALK = [message("What?"), message("fine", role="assistant"), message("Go on")]


def load_and_talk(path: Path) -> Engine | None:
    engine = outcome(lambda: Engine.load(path, slots=8), LOADING)
    if engine is not None:
        request = generate_request(*TALK, tools=[tool()], max_new_tokens=2)
        outcome(lambda: list(engine.generate(request)), ANSWERING)
    return engine


@settings(max_examples=4 * EXAMPLES)
@given(what=damage())
def test_damage_is_refused_or_answers(whole: Path, what: Damage) -> None:
    path = whole.with_name("spoilt.gguf")
    path.write_bytes(damaged(whole.read_bytes(), *what))
    load_and_talk(path)


@settings(max_examples=4 * EXAMPLES)
@given(at=st.integers(0, 2**31), bit=st.integers(0, 7), length=st.sampled_from([1, 4, 8]))
def test_a_damaged_header_is_refused_or_answers(whole: Path, at: int, bit: int, length: int) -> None:
    """Counts, lengths, types and offsets lie in the header: one of its bytes, or the next ones set to their largest."""
    content = bytearray(whole.read_bytes())
    header = min(entry.offset for entry in read_gguf(whole).entries.values())
    at %= header - length
    content[at : at + length] = bytes([content[at] ^ (1 << bit)]) if length == 1 else b"\xff" * length
    path = whole.with_name("spoilt.gguf")
    path.write_bytes(content)
    load_and_talk(path)


def test_cut_anywhere_it_is_told(whole: Path) -> None:
    content = whole.read_bytes()
    path = whole.with_name("cut.gguf")
    for keep in [*range(0, 200, 3), *range(200, len(content) - 31, 997), len(content) - 40]:
        path.write_bytes(content[:keep])
        refused(path, "checkpoint_damaged")


def test_bytes_that_are_nobodys(whole: Path) -> None:
    path = whole.with_name("long.gguf")
    path.write_bytes(whole.read_bytes() + bytes(64))
    refused(path, "checkpoint_damaged", "the data")


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "checkpoint_damaged", ["0 bytes"]),
        (b"GGML" + bytes(40), "checkpoint_damaged", ["GGUF"]),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0) + bytes(40), "checkpoint_unsupported", ["version 0x1"]),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(40), "checkpoint_unsupported", ["0x3000000"]),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63) + bytes(40), "checkpoint_damaged", ["the metadata"]),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0) + bytes(40), "checkpoint_damaged", ["tensors' entries"]),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(40),
            "checkpoint_unsupported",
            ["general.architecture"],
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 98362432\n",
            "checkpoint_missing",
            ["Git LFS pointer"],
        ),
    ],
)
def test_what_is_no_gguf_file(tmp_path: Path, content: bytes, kind: str, words: list[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, kind, *words)


def test_a_value_that_is_no_number_names_its_tensor(tmp_path: Path, whole: Path) -> None:
    entry = read_gguf(whole).entries["blk.0.ffn_up.weight"]
    content = bytearray(whole.read_bytes())
    content[entry.offset : entry.offset + 2] = np.array(
        np.nan, np.float16
    ).tobytes()  # the first block's scale
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, "checkpoint_damaged", "blk.0.ffn_up.weight", "NaN")


def test_types_that_only_others_can_write(tmp_path: Path) -> None:
    """K-quants: `gguf` can undo them, and has no writer. Any bytes with finite scales are a tensor of them."""
    generator = np.random.default_rng(1)
    for kind in (Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = generator.integers(0, 60, (6, 256 // block * size), np.uint8)
        writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
        writer.add_tensor("a", raw, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        tensor = stored_tensors(read_gguf(tmp_path / "k.gguf"))["a"]
        assert (tensor.dtype, tensor.precision, tensor.shape) == (kind.name, kind.name.lower(), (6, 256))
        np.testing.assert_array_equal(tensor.widened(), gguf.dequantize(raw, kind))
