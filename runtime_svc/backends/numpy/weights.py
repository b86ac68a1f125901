"""A decoder's weights as the NumPy backend computes with them: float32, fused, and in the order of its rotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime_svc.models.architecture import ModelConfig
from runtime_svc.models.tensors import BlockTensors, TensorSpec
from runtime_svc.weights.checkpoint import Checkpoint

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerWeights:
    """One block. Matrices are (inputs, outputs), C-contiguous: `x @ w` then reads each row once, in order.

    The columns of every query and key head, and `qk_gain`, are in rotary order: pair i of a head lies at
    2i and 2i+1, so that a head is `head_dim / 2` complex numbers. `qk_gain` is (heads + kv_heads, head_dim);
    None without QK-norm, as `qkv_bias` is without a bias.
    """

    attention_gain: Floats
    qkv: Floats
    qkv_bias: Floats | None
    qk_gain: Floats | None
    o: Floats
    ffn_gain: Floats
    gate_up: Floats
    down: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A decoder's weights. `embedding` is (vocabulary, hidden), `head` (hidden, vocabulary)."""

    embedding: Floats
    layers: tuple[LayerWeights, ...]
    final_gain: Floats
    head: Floats
    parameters: int
    stored_dtype: str


def read_weights(checkpoint: Checkpoint) -> Weights:
    """The weights, widened once. Raises `TreniError` naming file and tensor when a value is not finite."""
    config, tensors = checkpoint.config, checkpoint.config.tensors

    def take(spec: TensorSpec) -> Floats:
        return checkpoint.tensors[spec.name].widened()

    embedding = take(tensors.embedding)
    return Weights(
        embedding=embedding,
        layers=tuple(_Block(checkpoint, config, block).read() for block in tensors.blocks),
        final_gain=take(tensors.final_gain),
        head=np.ascontiguousarray((embedding if tensors.head is None else take(tensors.head)).T),
        parameters=checkpoint.parameters,
        stored_dtype=checkpoint.stored_dtype,
    )


class _Block:
    """Reads one block."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, tensors: BlockTensors) -> None:
        self._checkpoint = checkpoint
        self._config = config
        self._tensors = tensors
        self._pairs = _rotary_order(config.head_dim)

    def read(self) -> LayerWeights:
        t = self._tensors
        gate_up = np.concatenate([self._take(t.gate), self._take(t.up)])
        return LayerWeights(
            attention_gain=self._take(t.attention_gain),
            qkv=np.ascontiguousarray(self._qkv(t.q, t.k, t.v).T),
            qkv_bias=self._qkv(t.q_bias, t.k_bias, t.v_bias) if t.q_bias and t.k_bias and t.v_bias else None,
            qk_gain=self._gains(t.q_gain, t.k_gain) if t.q_gain and t.k_gain else None,
            o=np.ascontiguousarray(self._take(t.o).T),
            ffn_gain=self._take(t.ffn_gain),
            gate_up=np.ascontiguousarray(gate_up.T),
            down=np.ascontiguousarray(self._take(t.down).T),
        )

    def _take(self, spec: TensorSpec) -> Floats:
        return self._checkpoint.tensors[spec.name].widened()

    def _qkv(self, q: TensorSpec, k: TensorSpec, v: TensorSpec) -> Floats:
        """The three under each other, queries and keys in rotary order within each head."""
        return np.concatenate([self._heads(q), self._heads(k), self._take(v)])

    def _heads(self, spec: TensorSpec) -> Floats:
        tensor, wide = self._take(spec), self._config.head_dim
        rest = tensor.shape[1:]
        return tensor.reshape(-1, wide, *rest)[:, self._pairs].reshape(-1, *rest)

    def _gains(self, q: TensorSpec, k: TensorSpec) -> Floats:
        """One row a head."""
        c = self._config
        gains = self._take(q)[self._pairs], self._take(k)[self._pairs]
        return np.concatenate([np.tile(gains[0], (c.heads, 1)), np.tile(gains[1], (c.kv_heads, 1))])


def _rotary_order(head_dim: int) -> npt.NDArray[np.intp]:
    """Hugging Face rotates element i with element i + head_dim / 2; this puts the two side by side."""
    return np.arange(head_dim).reshape(2, head_dim // 2).T.ravel()
