"""A decode step in float64, written from the formulas, and the buffers a step needs as NumPy arrays."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from runtime_svc.backends.cuda import decode_layout as layout
from runtime_svc.backends.cuda.shim.build import KERNELS, Library
from runtime_svc.decoding.runner import Row
from runtime_svc.ops import SamplingParams
from runtime_svc.random_checkpoint import Shape, random_tensors

PROBE = Path(__file__).parent / "decode_probe.cu"
TINY = layout.DecodeShape(hidden=256, heads=8, kv_heads=2, head_dim=32, ffn=640)
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, seed=0)


def bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to bf16 (nearest, ties to even), as bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


class Model:
    """Random weights of a shape, as the device stores them, and the same numbers in float64."""

    def __init__(self, shape: Shape, *, seed: int, theta: float = 10000.0, eps: float = 1e-6) -> None:
        self.shape, self.eps = shape, eps
        self.tensors = random_tensors(shape, seed)
        t = self.tensors
        self.layers = []
        for i in range(shape.layers):
            at = f"model.layers.{i}."

            def take(name: str, at: str = at) -> np.ndarray:
                return t[at + name]

            layer = {
                "qkv": bf16(np.concatenate([take(f"self_attn.{n}_proj.weight") for n in "qkv"])),
                "output": bf16(take("self_attn.o_proj.weight")),
                "gate_up": bf16(np.concatenate([take("mlp.gate_proj.weight"), take("mlp.up_proj.weight")])),
                "down": bf16(take("mlp.down_proj.weight")),
                "attention_gain": take("input_layernorm.weight"),
                "ffn_gain": take("post_attention_layernorm.weight"),
            }
            if shape.model_type == "qwen2":
                layer["qkv_bias"] = np.concatenate([take(f"self_attn.{n}_proj.bias") for n in "qkv"])
            elif shape.model_type == "qwen3":
                layer["q_gain"] = take("self_attn.q_norm.weight")
                layer["k_gain"] = take("self_attn.k_norm.weight")
            self.layers.append(layer)
        self.embedding = bf16(t["model.embed_tokens.weight"])
        self.head = self.embedding if shape.tied else bf16(t["lm_head.weight"])
        self.final_gain = t["model.norm.weight"]
        frequencies = theta ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
        angles = np.outer(np.arange(shape.context_length), frequencies)
        self.rope = np.ascontiguousarray(np.stack([np.cos(angles), np.sin(angles)], axis=2), np.float32)

    def step(self, cache: np.ndarray, row: Row, token: int) -> np.ndarray:
        """Logits (vocabulary,) float64 after `token`; its keys and values go into the cache of halves."""
        s = self.shape
        group = s.heads // s.kv_heads

        def rms(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
            normed: np.ndarray = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps)
            return normed * gain.astype(np.float64)

        cos, sin = self.rope[row.position, :, 0].astype(float), self.rope[row.position, :, 1].astype(float)

        def rotate(x: np.ndarray) -> np.ndarray:
            low, high = np.split(x, 2, axis=-1)
            return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)

        x = widened(self.embedding[token])
        for i, layer in enumerate(self.layers):
            qkv = widened(layer["qkv"]) @ rms(x, layer["attention_gain"])
            if "qkv_bias" in layer:
                qkv = qkv + layer["qkv_bias"]
            q, k, v = np.split(qkv.reshape(-1, s.head_dim), [s.heads, s.heads + s.kv_heads])
            if "q_gain" in layer:
                q, k = rms(q, layer["q_gain"]), rms(k, layer["k_gain"])
            q, k = rotate(q), rotate(k)
            cache[i, 0, row.slot, :, row.position] = k
            cache[i, 1, row.slot, :, row.position] = v
            keys, values = cache[i, :, row.slot, :, : row.position + 1].astype(float)
            scores = np.einsum("kgd,kpd->kgp", q.reshape(s.kv_heads, group, -1), keys) / np.sqrt(s.head_dim)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            x = x + widened(layer["output"]) @ np.einsum("kgp,kpd->kgd", weights, values).ravel()
            gate, up = np.split(widened(layer["gate_up"]) @ rms(x, layer["ffn_gain"]), 2)
            x = x + widened(layer["down"]) @ (gate / (1 + np.exp(-gate)) * up)
        logits: np.ndarray = widened(self.head) @ rms(x, self.final_gain)
        return logits


class Shim:
    """A model on the CPU shim: `run` is one launch. Every output is NaN or -1 before it."""

    def __init__(
        self,
        model: Model,
        directory: Path,
        *,
        blocks: int,
        slots: int,
        capacity: int,
        shared_bytes: int,
        **defines: int,
    ) -> None:
        s = model.shape
        self.model, self.blocks, self.slots, self.capacity = model, blocks, slots, capacity
        self.shape = layout.DecodeShape(
            hidden=s.hidden, heads=s.heads, kv_heads=s.kv_heads, head_dim=s.head_dim, ffn=s.ffn
        )
        self.shared_bytes = shared_bytes
        macros = {**self.shape.defines, "SHARED_BYTES": shared_bytes, **defines}
        self.library = Library(KERNELS / "decode.cu", macros, directory)
        self.cache = np.full((s.layers, 2, slots, s.kv_heads, capacity, s.head_dim), np.nan, np.float16)
        self.exchange = np.zeros(self.shape.exchange_words(blocks), np.uint64)
        self.logits = np.empty((layout.MAX_ROWS, s.vocabulary), np.float32)
        self.last_token = np.full(slots, -1, np.int32)
        self.results = (layout.RowResult * layout.MAX_ROWS)()
        self.pointers = (layout.LayerPointers * s.layers)()
        for pointers, layer in zip(self.pointers, model.layers, strict=True):
            for name, array in layer.items():
                setattr(pointers, name, array.ctypes.data)
        self.arguments = layout.StepArguments(
            layers=ctypes.addressof(self.pointers),
            embedding=model.embedding.ctypes.data,
            head=model.head.ctypes.data,
            final_gain=model.final_gain.ctypes.data,
            rope=model.rope.ctypes.data,
            cache=self.cache.ctypes.data,
            exchange=self.exchange.ctypes.data,
            logits=self.logits.ctypes.data,
            last_token=self.last_token.ctypes.data,
            results=ctypes.addressof(self.results),
            layer_count=s.layers,
            vocabulary=s.vocabulary,
            capacity=capacity,
            slots=slots,
            eps=model.eps,
            whole=self.shape.whole_tiles(s.vocabulary, blocks),
        )

    def run(self, rows: list[Row], *, schedule: int = 0) -> list[layout.RowResult]:
        self.logits[:] = np.nan
        ctypes.memset(self.results, 0xFF, ctypes.sizeof(self.results))
        self.arguments.row = layout.row_controls(self.shape, rows, self.blocks)
        if layout.next_launch(self.arguments, len(rows)):
            self.exchange[: self.shape.phased_words] = 0
        self.library.launch(
            "decode_step",
            (self.blocks,),
            (layout.THREADS,),
            [self.arguments],
            shared_bytes=self.shared_bytes,
            resident=True,
            schedule=schedule,
        )
        return list(self.results)[: len(rows)]
