"""The Qwen3 architecture in PyTorch, for training only; weights carry Hugging Face's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of the model."""

    vocabulary: int = 1024
    width: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    head_width: int = 32
    ffn: int = 640
    context: int = 2048
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6

    def config(self, *, end_id: int, stop_id: int) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_width,
            "intermediate_size": self.ffn,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": self.layers,
            "bos_token_id": end_id,
            "eos_token_id": stop_id,
            "pad_token_id": end_id,
            "dtype": "bfloat16",
            "torch_dtype": "bfloat16",
        }


class RMSNorm(nn.Module):
    """The norm x / rms(x) * weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with a norm on queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner = shape.heads * shape.head_width
        self.q_proj = nn.Linear(shape.width, inner, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.o_proj = nn.Linear(inner, shape.width, bias=False)
        self.q_norm = RMSNorm(shape.head_width, shape.norm_eps)
        self.k_norm = RMSNorm(shape.head_width, shape.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, width) to the same; cos and sin are (T, head_width)."""
        batch, length, _ = x.shape
        s = self.shape
        q = self.q_norm(self.q_proj(x).view(batch, length, s.heads, s.head_width)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(batch, length, s.kv_heads, s.head_width)).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, s.kv_heads, s.head_width).transpose(1, 2)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        groups = s.heads // s.kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, s.heads * s.head_width))
        return out


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


class Mlp(nn.Module):
    """The gated feed-forward part of a layer (SwiGLU)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """One layer of the decoder: attention, then the feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, width) to the same."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The model without its head, which is the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        powers = torch.arange(0, shape.head_width, 2, dtype=torch.float64) / shape.head_width
        angles = torch.outer(torch.arange(shape.context, dtype=torch.float64), shape.rope_theta**-powers)
        turned = torch.cat((angles, angles), dim=-1)
        self.register_buffer("ids", torch.arange(shape.vocabulary), persistent=False)
        self.register_buffer("cos", turned.cos().float(), persistent=False)
        self.register_buffer("sin", turned.sin().float(), persistent=False)
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Block):
            scale = (2 * self.shape.layers) ** -0.5
            for weight in (module.self_attn.o_proj.weight, module.mlp.down_proj.weight):
                nn.init.normal_(weight, std=0.02 * scale)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids to (B, T, width) final hidden states."""
        # As a product: a gather's gradient sorts the ids, which cannot be recorded as part of a CUDA graph.
        table = self.embed_tokens.weight
        x = F.linear((ids[..., None] == self.ids).to(table.dtype), table.T).float()
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) to (..., vocabulary)."""
        return F.linear(hidden, self.embed_tokens.weight)

    def checkpoint(self) -> dict[str, Tensor]:
        """bf16 weights under Hugging Face's names; the head is tied and not repeated."""
        return {
            f"model.{name}": tensor.detach().to(torch.bfloat16).cpu().contiguous()
            for name, tensor in self.state_dict().items()
        }

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Takes weights that `checkpoint` gave."""
        self.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
