"""Bytes of a checkpoint flipped, cut off or put in: a typed error, or a model that answers; never anything else."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_svc.encoder.encoder import Encoder
from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from tests.places import GOLDENS
from tests.runtime_svc.requests import generate_request, message, tool
from treni.errors import Code, TreniError
from treni.v1 import common_pb2

T = TypeVar("T")
Damage: TypeAlias = tuple[float, str, int, int]

BERT = GOLDENS / "data" / "encoder" / "random-bert"
LOADING = dict.fromkeys(
    ("checkpoint_missing", "checkpoint_damaged", "checkpoint_unsupported"), Code.FAILED_PRECONDITION
)
ANSWERING = {
    "conversation_refused": Code.INVALID_ARGUMENT,  # by a template that is still a template
    "context_overflow": Code.INVALID_ARGUMENT,  # of a smaller context
    "logits_not_finite": Code.INTERNAL,  # finite weights whose products are not
    "checkpoint_damaged": Code.FAILED_PRECONDITION,  # a tokenizer that fails at some texts
}
EMBEDDING = {kind: ANSWERING[kind] for kind in ("context_overflow", "checkpoint_damaged")} | {
    "embedding_not_finite": Code.INTERNAL
}
"""What may be refused, after a load that saw nothing wrong too, and how."""

EXAMPLES = int(os.environ.get("TRENI_DAMAGE_EXAMPLES", "60"))
SMALL = Shape(layers=1, hidden=8, heads=2, kv_heads=1, head_dim=4, ffn=8, vocabulary=265, context_length=256)
TALK = [
    message("What?"),
    message("", role="assistant", tool_calls=[common_pb2.ToolCall(name="f", arguments_json="{}")]),
    message("{}", role="tool", tool_name="f"),
]


@st.composite
def damage(draw: st.DrawFn) -> Damage:
    """What is done to a file's bytes: (where, as a share of its length) and how."""
    where = draw(st.floats(0, 1, exclude_max=True))
    how = draw(st.sampled_from(["flip", "cut", "insert", "zero", "swap"]))
    return where, how, draw(st.integers(0, 255)), draw(st.integers(1, 12))


def damaged(content: bytes, where: float, how: str, byte: int, length: int) -> bytes:
    at = int(where * len(content))
    head, tail = content[:at], content[at:]
    match how:
        case "flip":
            return head + bytes([tail[0] ^ (byte or 1)]) + tail[1:]
        case "cut":
            return head
        case "insert":
            return head + bytes([byte]) * length + tail
        case "zero":
            return head + bytes(min(length, len(tail))) + tail[length:]
    return head + tail[length : 2 * length] + tail[:length] + tail[2 * length :]


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single-file and a sharded checkpoint, and a directory to damage copies in."""
    root = tmp_path_factory.mktemp("damage")
    write_random_checkpoint(root / "one", SMALL)
    write_random_checkpoint(root / "two", SMALL, shards=2)
    return root


def spoil(source: Path, target: Path, name: str, what: Damage) -> None:
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
    path = target / name
    path.write_bytes(damaged(path.read_bytes(), *what))


def outcome(call: Callable[[], T], refusals: Mapping[str, Code]) -> T | None:
    """What the call returns, or None after one of the refusals; anything else is let through."""
    try:
        return call()
    except TreniError as caught:
        error = caught
    assert (error.kind, error.code) in refusals.items()
    return None


SINGLE = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "model.safetensors",
]
SHARDED = ["model.safetensors.index.json", "model-00001-of-00002.safetensors"]


@pytest.mark.parametrize("name", SINGLE + SHARDED)
@settings(max_examples=EXAMPLES)
@given(what=damage())
def test_a_damaged_decoder_is_refused_or_answers(decoders: Path, name: str, what: Damage) -> None:
    source = decoders / ("one" if name in SINGLE else "two")
    target = decoders / "spoilt"
    spoil(source, target, name, what)
    engine = outcome(lambda: Engine.load(target), LOADING)
    if engine is None:
        return
    request = generate_request(*TALK, tools=[tool()], max_new_tokens=2)
    chunks = outcome(lambda: list(engine.generate(request)), ANSWERING)
    assert chunks is None or chunks[-1].finish.usage.completion_tokens in (1, 2)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@settings(max_examples=EXAMPLES)
@given(what=damage())
def test_a_damaged_encoder_is_refused_or_answers(decoders: Path, name: str, what: Damage) -> None:
    target = decoders / "spoilt-bert"
    spoil(BERT, target, name, what)
    encoder = outcome(lambda: Encoder.load(target), LOADING)
    if encoder is None:
        return
    vectors = outcome(lambda: encoder.embed(["Hi there"]), EMBEDDING)
    if vectors is not None:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


@settings(max_examples=40)
@given(at=st.integers(0, 2**31), bits=st.sampled_from([0x7F80, 0xFF80, 0x7FC0, 0xFFFF]))
def test_one_weight_that_is_no_number_names_its_tensor(decoders: Path, at: int, bits: int) -> None:
    target = decoders / "spoilt"
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(decoders / "one", target)
    path = target / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    index = start + at % ((len(content) - start) // 2) * 2
    content[index : index + 2] = np.array(bits, "<u2").tobytes()
    path.write_bytes(content)
    with pytest.raises(TreniError, match=r"(layers|norm|embed)[\w.]* of .*model\.safetensors") as caught:
        Engine.load(target)
    assert caught.value.kind == "checkpoint_damaged"
