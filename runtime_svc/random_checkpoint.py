"""Writes Hugging Face directories with random weights, for tests and benches. Their text is noise."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from runtime_svc.models import ARCHITECTURES, of_type
from runtime_svc.models.architecture import Architecture, ModelConfig
from runtime_svc.safetensor import write_file
from treni.errors import invalid_argument

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

_END_OF_TEXT, _END_OF_TURN = 256, 258
"""Ids of two control tokens: they follow the 256 bytes."""

CHAT_TEMPLATE = """\
{%- if tools %}
<|im_start|>system
{%- for tool in tools %}

{{ tool | tojson }}
{%- endfor %}
<|im_end|>
{% endif %}
{%- for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}

<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A decoder to make up, of an architecture's `model_type`. `dtype` is "bfloat16", "float16" or "float32"."""

    model_type: str = "qwen3"
    layers: int = 2
    hidden: int = 32
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    ffn: int = 48
    vocabulary: int = 288
    context_length: int = 1024
    tied: bool = True
    dtype: str = "bfloat16"


TRENI_TINY = Shape(
    layers=6, hidden=256, heads=8, kv_heads=2, head_dim=32, ffn=640, vocabulary=1024, context_length=2048
)
"""The shape of the bundled checkpoint."""


def write_random_checkpoint(directory: Path, shape: Shape, *, seed: int = 0, shards: int = 1) -> Path:
    """Writes config, weights, tokenizer and chat template into `directory`, made if needed; returns it.

    The same shape and seed give the same bytes. `shards` over 1 writes an index beside that many files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _write_json(directory / "config.json", _config(shape))
    _write_json(directory / "generation_config.json", {"eos_token_id": [_END_OF_TURN, _END_OF_TEXT]})
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    byte_tokenizer().save(str(directory / "tokenizer.json"))
    tensors = random_tensors(shape, seed)
    if shards == 1:
        write_file(directory / "model.safetensors", tensors, shape.dtype)
        return directory
    placed: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[number::shards]}
        write_file(directory / file, part, shape.dtype)
        placed |= dict.fromkeys(part, file)
    _write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})
    return directory


def random_tensors(shape: Shape, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """The weights by their Hugging Face names, (outputs, inputs), scaled to keep activations near 1."""
    generator = np.random.default_rng(seed)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for spec in config_of(shape).tensors:
        values = generator.standard_normal(spec.shape, np.float32)
        if len(spec.shape) == 2:
            values /= np.float32(spec.shape[1]) ** 0.5
        else:
            values = 0.1 * values + (0.0 if spec.name.endswith("bias") else 1.0)
        tensors[spec.name] = values.astype(np.float32)
    return tensors


def config_of(shape: Shape) -> ModelConfig:
    """The decoder that a shape describes."""
    ends = frozenset(i for i in (_END_OF_TURN, _END_OF_TEXT) if i < shape.vocabulary)
    return _architecture(shape).read(Path("config.json"), _config(shape), ends)


def _architecture(shape: Shape) -> Architecture:
    found = of_type(shape.model_type)
    if found is None:
        raise invalid_argument(
            "architecture_unknown",
            expected=f"a model_type of {', '.join(ARCHITECTURES)}",
            got=repr(shape.model_type),
        )
    return found


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": [_architecture(shape).name],
        "model_type": shape.model_type,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": shape.tied,
        "dtype": shape.dtype,
    }


def byte_tokenizer(texts: int = 256) -> Tokenizer:
    """Tokens for the 256 bytes, then made-up words up to the id `texts`, then the control tokens and the markers.

    There are no merges, so that no text is ever encoded to a word; a model that draws one says it.
    """
    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary += itertools.islice(_words(), texts - len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in MARKERS])
    return tokenizer


def _words() -> Iterator[str]:
    """Words of two letters, of three, and so on, with the space before them as byte-level BPE writes it."""
    for length in itertools.count(2):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "Ġ" + "".join(letters)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
