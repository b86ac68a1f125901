"""The least that a decode step can cost: bytes that have to move, over the rate at which the machine moves them."""

from __future__ import annotations

from dataclasses import replace

from runtime_svc.bench.record import Model, Settings
from runtime_svc.models import of_type
from runtime_svc.models.architecture import ModelConfig


def model_of(name: str, config: ModelConfig) -> Model:
    """The record's entry for a checkpoint of that shape."""
    model = Model(
        name=name,
        family=config.architecture.model_type,
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        ffn=config.ffn,
        vocabulary=config.vocabulary,
        context_length=config.context_length,
        tied=config.tied,
        parameters=0,
    )
    table = 0 if config.tied else config.vocabulary * config.hidden
    return replace(model, parameters=weight_bytes(model, 1) + table)


def matrix_shapes(model: Model) -> list[tuple[int, int]]:
    """(inputs, outputs) of every product of one decode step, in order; the head comes last."""
    attention = model.heads * model.head_dim
    layer = [
        (model.hidden, attention + 2 * model.kv_heads * model.head_dim),
        (attention, model.hidden),
        (model.hidden, 2 * model.ffn),
        (model.ffn, model.hidden),
    ]
    return layer * model.layers + [(model.hidden, model.vocabulary)]


def weight_bytes(model: Model, element_bytes: int) -> int:
    """Bytes of weights that one token reads: every matrix, and the gains and biases of every layer.

    Of the embedding table it reads one row, which is not counted, unless the head is that table.
    """
    matrices = sum(rows * columns for rows, columns in matrix_shapes(model))
    architecture = of_type(model.family)
    assert architecture is not None  # `model_of` had it from there
    blocks, in_attention = architecture.blocks, 0
    if blocks.qkv_bias:
        in_attention += (model.heads + 2 * model.kv_heads) * model.head_dim
    if blocks.qk_norm:
        in_attention += 2 * model.head_dim
    vectors = model.layers * (2 * model.hidden + in_attention) + model.hidden
    return (matrices + vectors) * element_bytes


def kv_bytes(model: Model, context: int, element_bytes: int) -> int:
    """Bytes of keys and values that one sequence's step reads with `context` tokens before it."""
    return 2 * model.layers * model.kv_heads * model.head_dim * context * element_bytes


def step_bytes(model: Model, settings: Settings, batch: int, tokens: int) -> float:
    """Mean bytes of a step over `tokens` steps from `decode_context` on: weights once, KV for each sequence."""
    context = settings.decode_context + (tokens - 1) / 2
    kv = kv_bytes(model, 1, settings.element_bytes) * context
    return weight_bytes(model, settings.element_bytes) + batch * kv
