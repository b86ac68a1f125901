"""The decoder once more, straight from its published equations, in float64 and without a cache.

Shares nothing with the engine but the names of a checkpoint's tensors.
"""

from collections.abc import Mapping

import numpy as np

from runtime_svc.random_checkpoint import Shape


def logits(
    shape: Shape,
    tensors: Mapping[str, np.ndarray],
    tokens: list[int],
    *,
    theta: float = 10000.0,
    eps: float = 1e-6,
) -> np.ndarray:
    """Logits (T, vocabulary) at every position of `tokens`."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        x = x + _attention(
            shape, w, at + "self_attn.", rms(x, w[at + "input_layernorm.weight"], eps), theta, eps
        )
        h = rms(x, w[at + "post_attention_layernorm.weight"], eps)
        gate, up = h @ w[at + "mlp.gate_proj.weight"].T, h @ w[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    head = w["model.embed_tokens.weight"] if shape.tied else w["lm_head.weight"]
    out: np.ndarray = rms(x, w["model.norm.weight"], eps) @ head.T
    return out


def rms(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    normed: np.ndarray = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * gain
    return normed


def rotate(x: np.ndarray, positions: np.ndarray, theta: float) -> np.ndarray:
    """Element i turns with element i + D / 2; x is (T, D)."""
    half = x.shape[1] // 2
    angle = positions[:, None] * theta ** (-np.arange(half) / half)
    first, second = x[:, :half], x[:, half:]
    return np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)],
        axis=1,
    )


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: np.ndarray = e / e.sum(axis=-1, keepdims=True)
    return shares


def _attention(
    shape: Shape, w: Mapping[str, np.ndarray], at: str, h: np.ndarray, theta: float, eps: float
) -> np.ndarray:
    length, dim = len(h), shape.head_dim
    positions = np.arange(length)

    def project(name: str) -> np.ndarray:
        out: np.ndarray = h @ w[at + name + "_proj.weight"].T
        if shape.model_type == "qwen2":
            out = out + w[at + name + "_proj.bias"]
        return out.reshape(length, -1, dim)

    q, k, v = project("q"), project("k"), project("v")
    if shape.model_type == "qwen3":
        q, k = rms(q, w[at + "q_norm.weight"], eps), rms(k, w[at + "k_norm.weight"], eps)
    heads = []
    for head in range(shape.heads):
        shared = head // (shape.heads // shape.kv_heads)
        turned_q, turned_k = rotate(q[:, head], positions, theta), rotate(k[:, shared], positions, theta)
        scores = turned_q @ turned_k.T / np.sqrt(dim)
        scores[np.triu_indices(length, 1)] = -np.inf
        heads.append(softmax(scores) @ v[:, shared])
    out: np.ndarray = np.concatenate(heads, axis=1) @ w[at + "o_proj.weight"].T
    return out


def nearest_bfloat16(values: np.ndarray) -> np.ndarray:
    """The nearest of the two bfloat16 around every float32, the even one of two equally near ones, as float32."""
    below = values.view(np.uint32) & np.uint32(0xFFFF0000)
    beyond = below + np.uint32(0x10000)
    low, high = below.view(np.float32).astype(float), beyond.view(np.float32).astype(float)
    to_low, to_high = np.abs(values - low), np.abs(high - values)
    odd = (below >> 16) & 1 == 1
    return np.where((to_high < to_low) | ((to_high == to_low) & odd), high, low).astype(np.float32)
