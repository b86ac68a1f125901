"""The engine against Hugging Face transformers, by the files that tests/goldens/make_goldens.py wrote."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.npyio import NpzFile

import runtime_svc
from runtime_svc.backends.numpy.decoder import Decoder
from runtime_svc.backends.numpy.ops import NumpyOps
from runtime_svc.backends.numpy.runner import NumpyRunner
from runtime_svc.backends.numpy.weights import read_weights
from runtime_svc.engine import Engine
from runtime_svc.ops import Sampled, SamplingParams
from runtime_svc.weights.opening import open_checkpoint
from tests.places import GOLDENS
from treni.v1 import common_pb2, inference_pb2

DATA = GOLDENS / "data"
CASES = sorted(path.name for path in (DATA / "random").iterdir())
TRENI_TINY = Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny"
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)
CLEAR_GAP = 0.1


def nmse(actual: np.ndarray, expected: np.ndarray) -> float:
    """Normalised mean squared error, in float64; NaN in either makes it NaN, which no bound admits."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    return float(np.sum((actual - expected) ** 2) / np.sum((expected - expected.mean()) ** 2))


def follow(
    decoder: Decoder, golden: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[tuple[Sampled, int]]]:
    """Runs the golden prompt and its golden tokens; our logits and samples at each step."""
    cache = decoder.new_cache()
    logits = decoder.forward(golden["prompt"].tolist(), cache)
    rows, samples = [], []
    for step, token in enumerate(golden["ids"].tolist()):
        if step > 0:
            logits = decoder.forward([golden["ids"].tolist()[step - 1]], cache)
        rows.append(logits.copy())
        samples.append((decoder.ops.sample(logits, GREEDY, step), token))
    return np.stack(rows), samples


def check_samples(
    logits: np.ndarray, samples: list[tuple[Sampled, int]], gaps: np.ndarray, golden: Mapping[str, np.ndarray]
) -> None:
    """Statistics at every step; the token wherever the reference's second choice is clearly behind."""
    chosen = np.take_along_axis(logits.astype(np.float64), golden["ids"][:, None].astype(int), axis=1)[:, 0]
    logprobs = chosen - np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(logprobs, golden["logprob"], atol=0.05)
    for (sampled, token), gap, logprob, entropy in zip(
        samples, gaps, logprobs, golden["entropy"], strict=True
    ):
        assert sampled.entropy == pytest.approx(entropy, abs=0.02)
        if gap > CLEAR_GAP:
            assert sampled.id == token
            assert sampled.logprob == pytest.approx(logprob, abs=1e-4)


class PoisonedOps(NumpyOps):
    """Every buffer is NaN until it is written: what is read before shows."""

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, np.nan, np.float32)


@pytest.fixture(scope="module")
def random_goldens() -> NpzFile:
    goldens: NpzFile = np.load(DATA / "random.npz")
    return goldens


@pytest.mark.parametrize("case", CASES)
def test_random_checkpoint(case: str, random_goldens: NpzFile) -> None:
    directory = DATA / "random" / case
    opened = open_checkpoint(directory)
    decoder = Decoder(opened.config, read_weights(opened), PoisonedOps())
    prompts = {name.split("/")[1] for name in random_goldens.files if name.startswith(f"{case}/")}
    assert len(prompts) >= 4
    clear = 0
    for index in prompts:
        parts = ("prompt", "ids", "logits", "logprob", "entropy")
        golden = {part: random_goldens[f"{case}/{index}/{part}"] for part in parts}
        logits, samples = follow(decoder, golden)
        assert nmse(logits, golden["logits"]) <= 1e-9
        ranked = np.sort(golden["logits"], axis=1)
        gaps = ranked[:, -1] - ranked[:, -2]
        check_samples(logits, samples, gaps, golden)
        clear += int((gaps > CLEAR_GAP).sum())
    assert clear >= 8  # so that agreement is not of nothing


def test_random_cases_cover_every_shape_option() -> None:
    configs = [json.loads((DATA / "random" / case / "config.json").read_text()) for case in CASES]
    options = {
        (c["model_type"], c["tie_word_embeddings"]) for c in configs
    }  # both families, tied and untied heads
    assert options == {(family, tied) for family in ("llama", "qwen2", "qwen3") for tied in (True, False)}
    assert {c["dtype"] for c in configs} == {"bfloat16", "float16", "float32"}
    assert {c["rope_parameters"]["rope_type"] for c in configs} == {"default", "linear", "llama3", "yarn"}
    widths = [c.get("head_dim", 0) * c["num_attention_heads"] - c["hidden_size"] for c in configs]
    assert any(width > 0 for width in widths)
    assert any(width < 0 for width in widths)
    groups = {c["num_attention_heads"] // c["num_key_value_heads"] for c in configs}
    assert groups >= {1, 2, 3, 4}
    assert len({c["rms_norm_eps"] for c in configs}) > 1
    assert len({c["rope_parameters"]["rope_theta"] for c in configs}) > 1
    assert any("attention_factor" in c["rope_parameters"] for c in configs)
    assert any(len(list((DATA / "random" / case).glob("*-of-*.safetensors"))) > 1 for case in CASES)


@pytest.fixture(scope="module")
def tiny() -> Engine:
    return Engine.load(TRENI_TINY)


@pytest.fixture(scope="module")
def tiny_goldens() -> tuple[dict[str, Any], NpzFile]:
    golden = json.loads((DATA / "checkpoint.json").read_text(encoding="utf-8"))
    return golden, np.load(DATA / "checkpoint.npz")


def to_request(conversation: dict[str, Any]) -> inference_pb2.GenerateRequest:
    messages = [
        common_pb2.Message(
            role=message["role"],
            content=message["content"],
            tool_name=message.get("name", ""),
            tool_calls=[
                common_pb2.ToolCall(
                    name=call["function"]["name"],
                    arguments_json=json.dumps(call["function"]["arguments"], ensure_ascii=False),
                )
                for call in message.get("tool_calls", ())
            ],
        )
        for message in conversation["messages"]
    ]
    tools = [
        common_pb2.ToolSpec(
            name=tool["function"]["name"],
            description=tool["function"]["description"],
            parameters_json=json.dumps(tool["function"]["parameters"]),
        )
        for tool in conversation["tools"]
    ]
    return inference_pb2.GenerateRequest(messages=messages, tools=tools)


def test_goldens_are_of_the_bundled_weights(tiny_goldens: tuple[dict[str, Any], NpzFile]) -> None:
    digest = hashlib.sha256((TRENI_TINY / "model.safetensors").read_bytes()).hexdigest()
    assert tiny_goldens[0]["weights_sha256"] == digest


def test_bundled_checkpoint_renders_as_transformers(
    tiny: Engine, tiny_goldens: tuple[dict[str, Any], NpzFile]
) -> None:
    golden, arrays = tiny_goldens
    assert len(golden["conversations"]) >= 20
    for index, conversation in enumerate(golden["conversations"]):
        assert tiny.prompt(to_request(conversation)) == arrays[f"{index}/prompt"].tolist()


def test_bundled_checkpoint_computes_as_transformers(
    tiny: Engine, tiny_goldens: tuple[dict[str, Any], NpzFile]
) -> None:
    golden, arrays = tiny_goldens
    assert isinstance(tiny.runner, NumpyRunner)
    for index in range(len(golden["conversations"])):
        parts = ("prompt", "ids", "logits", "logprob", "entropy", "gap")
        expected = {part: arrays[f"{index}/{part}"] for part in parts}
        logits, samples = follow(tiny.runner.decoder, expected)
        kept = len(expected["logits"])
        assert nmse(logits[:kept], expected["logits"]) <= 1e-9
        check_samples(logits, samples, expected["gap"], expected)


def test_bundled_checkpoint_says_what_transformers_says(
    tiny: Engine, tiny_goldens: tuple[dict[str, Any], NpzFile]
) -> None:
    golden, arrays = tiny_goldens
    compared = 0
    for index, conversation in enumerate(golden["conversations"]):
        if arrays[f"{index}/gap"].min() <= CLEAR_GAP:
            continue  # two tokens are as good as equal somewhere: either text is right
        request = to_request(conversation)
        request.sampling.max_new_tokens = len(arrays[f"{index}/ids"])
        chunks = list(tiny.generate(request))
        assert chunks[-1].finish.text == conversation["text"]
        assert "".join(chunk.text for chunk in chunks) == conversation["text"]
        compared += 1
    assert compared >= len(golden["conversations"]) // 2
