"""Writes the golden files that the engine is compared with, from Hugging Face transformers.

    python -m tests.goldens.make_goldens --out tests/goldens/data [--checkpoint runtime_svc/checkpoints/treni-tiny]
    python -m tests.goldens.make_goldens --out tests/goldens/data --only checkpoint   # after a new treni-tiny

Needs torch and transformers (the "train" extra). Everything is computed in float32 with eager attention on the
CPU. Written:

* `random/<case>/`: small checkpoints with random weights, as `save_pretrained` writes them.
* `random.npz`: for each case and prompt, token ids, logits after the prompt and after each greedy step,
  logprob and entropy of the greedy tokens.
* `checkpoint.json`, `checkpoint.npz`: conversations, their rendered prompts and
  token ids, greedy text, and the same figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config

from tests.goldens.conversations import CONVERSATIONS

VOCABULARY = 96
STEPS = 8
PROMPT_LENGTHS = (1, 2, 7, 33)
NEW_TOKENS = 96
KEPT_LOGITS = 3
DEFAULT_CHECKPOINT = Path(__file__).parents[2] / "runtime_svc" / "checkpoints" / "treni-tiny"

_SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "eos_token_id": 2,
    "bos_token_id": None,
    "attn_implementation": "eager",
}


def _rope(theta: float = 10_000.0, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, **more}


def _shape(hidden: int, ffn: int, heads: int, kv_heads: int, tied: bool, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": tied,
        "rope_parameters": _rope(),
        **more,
    }


_LONG_YARN = _rope(
    rope_type="yarn",
    factor=8.0,
    original_max_position_embeddings=64,
    attention_factor=0.9,
    beta_fast=16.0,
    beta_slow=2.0,
)
_YARN = _rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
_LINEAR = _rope(rope_type="linear", factor=2.0)
# Trained on 64 positions: some of the eight pairs of a head of 16 are kept, some blended, some slowed down.
_LLAMA3 = _rope(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=0.5,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)

# name: (config class, shape, stored dtype, largest shard)
CASES: dict[str, tuple[type, dict[str, Any], torch.dtype, str]] = {
    "qwen2-tied": (Qwen2Config, _shape(32, 48, 4, 2, True), torch.bfloat16, "1GB"),
    "qwen2-untied-one-kv-head": (Qwen2Config, _shape(32, 40, 4, 1, False), torch.float32, "1GB"),
    "qwen2-no-groups-theta": (
        Qwen2Config,
        _shape(24, 64, 3, 3, True, rope_parameters=_rope(1e6)),
        torch.float16,
        "1GB",
    ),
    "qwen2-yarn": (Qwen2Config, _shape(32, 48, 2, 1, True, rope_parameters=_YARN), torch.bfloat16, "1GB"),
    "qwen2-sharded": (Qwen2Config, _shape(32, 48, 4, 2, False), torch.bfloat16, "12KB"),
    "qwen3-tied-wide-heads": (Qwen3Config, _shape(24, 40, 4, 2, True, head_dim=16), torch.bfloat16, "1GB"),
    "qwen3-untied-narrow-heads": (
        Qwen3Config,
        _shape(48, 32, 3, 1, False, head_dim=8),
        torch.bfloat16,
        "1GB",
    ),
    "qwen3-groups-theta": (
        Qwen3Config,
        _shape(32, 48, 6, 2, True, head_dim=8, rope_parameters=_rope(1e6)),
        torch.float32,
        "1GB",
    ),
    "qwen3-linear": (
        Qwen3Config,
        _shape(32, 48, 4, 4, True, head_dim=8, rope_parameters=_LINEAR),
        torch.float16,
        "1GB",
    ),
    "qwen3-yarn-long": (
        Qwen3Config,
        _shape(
            32,
            48,
            4,
            1,
            True,
            head_dim=8,
            rope_parameters=_LONG_YARN,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
        ),
        torch.bfloat16,
        "1GB",
    ),
    "qwen2-untied-linear": (
        Qwen2Config,
        _shape(48, 40, 6, 2, False, rope_parameters=_rope(1e5, rope_type="linear", factor=4.0)),
        torch.bfloat16,
        "1GB",
    ),
    "llama-tied": (LlamaConfig, _shape(32, 48, 4, 2, True), torch.bfloat16, "1GB"),
    "llama-untied-wide-heads": (
        LlamaConfig,
        _shape(24, 40, 4, 1, False, head_dim=16, rope_parameters=_rope(1e5), rms_norm_eps=1e-5),
        torch.float32,
        "1GB",
    ),
    "llama-stretched": (
        LlamaConfig,
        _shape(64, 96, 4, 2, True, rope_parameters=_LLAMA3, max_position_embeddings=512),
        torch.bfloat16,
        "1GB",
    ),
    "llama-own-head": (LlamaConfig, _shape(32, 48, 4, 2, True), torch.bfloat16, "1GB"),
    "qwen3-only-head": (Qwen3Config, _shape(32, 48, 4, 2, True, head_dim=8), torch.bfloat16, "1GB"),
    "qwen3-no-head": (Qwen3Config, _shape(32, 48, 4, 2, True, head_dim=8), torch.bfloat16, "1GB"),
}


def _own_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A head that was trained although the config ties it, as full fine-tuning leaves it."""
    embedding = tensors["model.embed_tokens.weight"]
    return {**tensors, "lm_head.weight": torch.randn_like(embedding) / embedding.shape[1] ** 0.5}


def _only_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The one matrix of a tied model under the head's name."""
    return {
        "lm_head.weight" if name == "model.embed_tokens.weight" else name: tensor
        for name, tensor in tensors.items()
    }


def _no_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As a model is stored that was saved without its head: Qwen3-Embedding is published like this."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


EDITS = {"llama-own-head": _own_head, "qwen3-only-head": _only_head, "qwen3-no-head": _no_head}
"""What is done to the stored tensors of a case before transformers reads them again."""

LONG_PROMPTS = {"qwen3-yarn-long": (1, 128, 129, 300), "llama-stretched": (1, 128, 129, 300)}
"""Past the engine's chunks of 128 tokens, where the shape has room for it."""


def main() -> None:
    """Writes the files; prints how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--only", choices=["random", "checkpoint"], help="leave the other files as they are")
    options = parser.parse_args()
    torch.manual_seed(20260)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only != "checkpoint":
        arrays: dict[str, np.ndarray] = {}
        for name in CASES:
            arrays.update(random_case(name, options.out / "random" / name))
        np.savez_compressed(options.out / "random.npz", allow_pickle=False, **arrays)
    if options.only != "random":
        write_checkpoint_goldens(options.checkpoint, options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 1e6:.2f} MB")


def random_case(name: str, directory: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Writes one random checkpoint; yields its golden arrays by name."""
    kind, shape, dtype, shard = CASES[name]
    model = AutoModelForCausalLM.from_config(kind(**{**_SHARED, **shape}))
    for key, parameter in model.named_parameters():
        # Wide enough that logits spread, and that biases and gains matter.
        if parameter.dim() == 2:
            parameter.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)
        else:
            parameter.normal_(1.0 if "norm" in key else 0.0, 0.3)
    model.to(dtype).save_pretrained(directory, max_shard_size=shard)
    if name in EDITS:
        weights = directory / "model.safetensors"
        save_file(EDITS[name](load_file(weights)), weights, {"format": "pt"})
    stored = load(directory)
    for index, length in enumerate(LONG_PROMPTS.get(name, PROMPT_LENGTHS)):
        prompt = torch.randint(3, VOCABULARY, (length,)).tolist()
        for part, values in greedy(stored, prompt, STEPS, stop=()).items():
            yield f"{name}/{index}/{part}", values
        yield f"{name}/{index}/prompt", np.asarray(prompt, np.int32)


def load(directory: Path) -> Any:
    """The stored model, widened to float32."""
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


def greedy(model: Any, prompt: list[int], steps: int, stop: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Greedy ids (at most `steps`, the stop token included), logits at each, logprob and entropy."""
    ids, logits, logprobs, entropies = [], [], [], []
    out = model(torch.tensor([prompt]), use_cache=True)
    for _ in range(steps):
        last = out.logits[0, -1]
        logits.append(last.numpy().copy())
        log_probabilities = torch.log_softmax(last.double(), dim=-1)
        chosen = int(last.argmax())
        ids.append(chosen)
        logprobs.append(float(log_probabilities[chosen]))
        entropies.append(float(-(log_probabilities.exp() * log_probabilities).sum()))
        if chosen in stop:
            break
        out = model(torch.tensor([[chosen]]), past_key_values=out.past_key_values, use_cache=True)
    return {
        "ids": np.asarray(ids, np.int32),
        "logits": np.stack(logits).astype(np.float32),
        "logprob": np.asarray(logprobs, np.float32),
        "entropy": np.asarray(entropies, np.float32),
    }


def write_checkpoint_goldens(checkpoint: Path, out: Path) -> None:
    """Writes `checkpoint.json` and `checkpoint.npz` for a trained checkpoint."""
    model = load(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    configured = model.generation_config.eos_token_id
    stop = tuple(configured) if isinstance(configured, list) else (configured,)
    arrays: dict[str, np.ndarray] = {}
    rows = []
    for index, conversation in enumerate(CONVERSATIONS):
        rendered = tokenizer.apply_chat_template(
            conversation["messages"],
            tools=conversation["tools"] or None,
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,
        )
        ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        result = greedy(model, ids, NEW_TOKENS, stop)
        gaps = np.sort(result["logits"], axis=1)
        arrays[f"{index}/logits"] = result["logits"][:KEPT_LOGITS]
        arrays[f"{index}/gap"] = gaps[:, -1] - gaps[:, -2]
        arrays |= {f"{index}/{part}": result[part] for part in ("ids", "logprob", "entropy")}
        arrays[f"{index}/prompt"] = np.asarray(ids, np.int32)
        text = tokenizer.decode([i for i in result["ids"].tolist() if i not in stop])
        rows.append({"rendered": rendered, "text": text, **conversation})
    np.savez_compressed(out / "checkpoint.npz", allow_pickle=False, **arrays)
    digest = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    golden = {
        "weights_sha256": digest,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "conversations": rows,
    }
    (out / "checkpoint.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
