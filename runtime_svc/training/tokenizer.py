"""The tokenizer of treni-tiny: byte-level BPE in which a value has the same tokens wherever it stands.

Spaces are tokens of their own (except around frequent function words, which are never values), digits stand
alone, and the fixed pieces of JSON around a tool or a call are one token each. So copying a name out of the
prompt into a call is copying tokens, and a call is short.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 1024

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END, START, STOP)
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")
PIECES = (
    '\n{"name": "',
    '", "arguments": {"',
    '"}}\n',
    "}}\n",
    '{"type": "function", "function": {"name": "',
    '", "description": "',
    '", "parameters": {"type": "object", "properties": {"',
    '": {"type": "string", "description": "',
    '": {"type": "integer", "description": "',
    '": {"type": "number", "description": "',
    '": {"type": "boolean", "description": "',
    '"}}, "required": ["',
    '"]}}}\n',
)
"""Fixed text of the template and of calls that is one token each."""

_FUNCTION_WORDS = (
    "the|of|is|to|and|for|in|a|with|that|this|it|you|as|by|on|my|me|are|at|from|was|or|has|have|do|does|what|how|"
    "which|then|all|there|many|an|please|one"
)
_PATTERN = "|".join(
    (
        rf"(?<![\p{{L}}_]) ?(?:{_FUNCTION_WORDS})(?![\p{{L}}_'\-]) ?",
        r"\p{Lu}?\p{Ll}+",
        r"\p{Lu}+",
        r"\p{N}",
        r"\n",
        r"[-().'_/]",
        r"[^\p{L}\p{N}\n\-().'_/]+",
    )
)


def train(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of VOCABULARY tokens learnt from rendered dialogues."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = len(SPECIAL) + len(MARKERS) + len(PIECES)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - added,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Added pieces are no part of what the merges are learnt from.
    cut = SPECIAL + MARKERS + PIECES
    tokenizer.train_from_iterator((_without(text, cut) for text in texts), trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in MARKERS + PIECES])
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"expected {VOCABULARY} tokens, got {tokenizer.get_vocab_size()}: give more text")
    return tokenizer


def tokenizer_config(context_length: int) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "eos_token": STOP,
        "pad_token": END,
        "model_max_length": context_length,
    }


def _without(text: str, pieces: Iterable[str]) -> str:
    for piece in pieces:
        text = text.replace(piece, "\n")
    return text
