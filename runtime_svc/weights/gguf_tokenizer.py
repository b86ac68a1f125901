"""The tokenizer, chat template and ends of turns of a GGUF file, as the files of a Hugging Face directory have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runtime_svc.errors import damaged, unsupported
from runtime_svc.weights.gguf_file import GgufFile

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
"""Types of tokens. The first two are one whatever stands around them; only control tokens structure a conversation."""

_KNOWN_TYPES = range(7)

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _byte_level(*, splits: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": splits}


def _split(pattern: str) -> list[dict[str, Any]]:
    """Cuts at what the pattern matches, each match a piece of its own, then writes bytes as characters."""
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [cut, _byte_level(splits=False)]


_DIGITS_THEN_GPT2 = [{"type": "Digits", "individual_digits": True}, _byte_level(splits=True)]
_QWEN2 = _split(_WORDS + r"\p{N}" + _REST)
_LLAMA3 = _split(_WORDS + r"\p{N}{1,3}" + _REST)

_PRETOKENIZERS: Mapping[str, Sequence[dict[str, Any]]] = {
    "gpt-2": [_byte_level(splits=True)],
    "smollm": _DIGITS_THEN_GPT2,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
}
"""How text is cut before pairs are merged, by `tokenizer.ggml.pre`, as the published `tokenizer.json` files say it."""

_COMPOSED = ("qwen2", "deepseek-r1-qwen")
"""Those that compose characters first (NFC)."""

_WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3")
"""Those that take a piece that is a token as it is, without merging towards it."""

_SPECIAL = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
_ENDS = ("eos", "eot", "eom")
_TEMPLATE = "tokenizer.chat_template"


def tokenizer_json(file: GgufFile) -> str:
    """The tokenizer in the form of a `tokenizer.json`. Raises naming the key that is missing, wrong or not known."""
    path = file.path
    model = file.metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model != "gpt2":
        wanted = "tokenizer.ggml.model gpt2 (byte-level BPE)"
        raise unsupported(path, expected=wanted, got=repr(model)[:80])
    pre = file.metadata.get("tokenizer.ggml.pre")
    if not isinstance(pre, str) or pre not in _PRETOKENIZERS:
        wanted = f"tokenizer.ggml.pre {', '.join(_PRETOKENIZERS)}"
        raise unsupported(path, expected=wanted, got=repr(pre)[:80])
    tokens = tokens_of(file)
    types = _types(file, len(tokens))
    used = [i for i, kind in enumerate(types) if kind != _UNUSED]
    vocabulary = {tokens[i]: i for i in used}
    if len(vocabulary) < len(used):
        twice = next(tokens[i] for i in used if vocabulary[tokens[i]] != i)
        raise damaged(path, "tokenizer.ggml.tokens", expected="all different", got=f"{twice!r} twice")
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                _added(i, tokens[i], special=kind == _CONTROL)
                for i, kind in enumerate(types)
                if kind in (_CONTROL, _USER_DEFINED)
            ],
            "normalizer": {"type": "NFC"} if pre in _COMPOSED else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(_PRETOKENIZERS[pre])},
            "post_processor": None,
            "decoder": _byte_level(splits=True),
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": pre in _WHOLE_WORDS_FIRST,
                "vocab": vocabulary,
                "merges": _merges(file, vocabulary),
            },
        }
    )


def tokenizer_config(file: GgufFile) -> dict[str, Any]:
    """The chat templates and special tokens in the form of a `tokenizer_config.json`."""
    tokens = tokens_of(file)
    config: dict[str, Any] = {}
    for key, name in _SPECIAL.items():
        index = _token_id(file, key, len(tokens))
        if index is not None:
            config[name] = tokens[index]
    templates = {
        key.removeprefix(_TEMPLATE).removeprefix(".") or "default": text
        for key, text in file.metadata.items()
        if key == _TEMPLATE or key.startswith(_TEMPLATE + ".")
    }
    for name, text in templates.items():
        if not isinstance(text, str):
            raise damaged(file.path, f"the chat template {name}", expected="text", got=type(text).__name__)
    if "default" not in templates:
        raise damaged(file.path, _TEMPLATE, expected="in the metadata", got="no chat template")
    config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    return config


def eos_ids(file: GgufFile) -> frozenset[int]:
    """The ids that end a turn: of the end of a sequence, of a turn, and of a message. Raises without any."""
    count = len(tokens_of(file))
    found = [_token_id(file, key, count) for key in _ENDS]
    ids = frozenset(index for index in found if index is not None)
    if not ids:
        keys = ", ".join(f"tokenizer.ggml.{key}_token_id" for key in _ENDS)
        raise damaged(file.path, keys, expected="at least one in the metadata", got="none")
    return ids


def tokens_of(file: GgufFile) -> list[str]:
    """The vocabulary in the order of its ids. Raises when it is not there, or empty."""
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        got = "nothing" if tokens is None else type(tokens).__name__
        raise damaged(file.path, "tokenizer.ggml.tokens", expected="a list of tokens", got=got)
    return tokens


def _types(file: GgufFile, count: int) -> list[int]:
    """The type of each token: without them every one is plain."""
    types = file.metadata.get("tokenizer.ggml.token_type")
    if types is None:
        return [1] * count
    if not isinstance(types, np.ndarray) or types.dtype.kind not in "iu" or len(types) != count:
        wanted = f"a whole number for each of {count} tokens"
        raise damaged(file.path, "tokenizer.ggml.token_type", expected=wanted, got=repr(types)[:80])
    found: list[int] = types.tolist()
    if not set(found) <= set(_KNOWN_TYPES):
        wanted = f"from 0 to {max(_KNOWN_TYPES)}"
        raise damaged(file.path, "tokenizer.ggml.token_type", expected=wanted, got=f"{max(found)}")
    return found


def _merges(file: GgufFile, vocabulary: Mapping[str, int]) -> list[list[str]]:
    """Pairs of tokens in the order in which they are merged, each of which makes a token."""
    key = "tokenizer.ggml.merges"
    merges = file.metadata.get(key)
    if not isinstance(merges, list) and not (isinstance(merges, np.ndarray) and not len(merges)):
        raise damaged(file.path, key, expected="a list of pairs", got=type(merges).__name__)
    pairs: list[list[str]] = []
    for merge in merges:
        pair = merge.split(" ")
        if len(pair) != 2 or not all(token in vocabulary for token in (*pair, "".join(pair))):
            wanted = "pairs of tokens that make a token"
            raise damaged(file.path, key, expected=wanted, got=repr(merge)[:80])
        pairs.append(pair)
    return pairs


def _token_id(file: GgufFile, key: str, count: int) -> int | None:
    name = f"tokenizer.ggml.{key}_token_id"
    value = file.metadata.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < count):
        raise damaged(file.path, name, expected=f"a token id under {count}", got=repr(value)[:80])
    return value


def _added(index: int, content: str, *, special: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, **plain, "special": special}
