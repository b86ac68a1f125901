"""A model as it is opened from disk: its checkpoint, tokenizer and chat template, which belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.tokenizer import Tokenizer
from runtime_svc.weights.checkpoint import Checkpoint
from runtime_svc.weights.opening import open_checkpoint
from treni.errors import Code, TreniError


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What a backend and an engine are made of; the weights are not read yet."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    template: ChatTemplate


def open_model(path: Path) -> Model:
    """The model in a Hugging Face directory or a GGUF file.

    Raises `TreniError` (FAILED_PRECONDITION) naming the file, and the setting, token or tensor in it, that is missing,
    damaged, not known or of another model.
    """
    checkpoint = open_checkpoint(path)
    tokenizer = Tokenizer(path, checkpoint.tokenizer_json)
    template = ChatTemplate(path, checkpoint.tokenizer_config)
    template.check(tokenizer.misplaced)
    if tokenizer.size > checkpoint.config.vocabulary:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "checkpoint_damaged",
            expected=f"token ids under the model's vocabulary of {checkpoint.config.vocabulary} in {path}",
            got=f"a tokenizer with {tokenizer.size}",
            todo="use the tokenizer that belongs to the weights",
        )
    return Model(checkpoint=checkpoint, tokenizer=tokenizer, template=template)
