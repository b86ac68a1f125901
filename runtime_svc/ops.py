"""The decoder's work in fused steps, each writing into buffers it is given.

`NumpyOps` is the reference, passed to `Decoder`. The same steps in the same order stand beside it in
`backends/cuda/ops.py`, for device memory and bf16 weights; what both backends answer to is `runner.Runner`. All
values here are float32. Shapes: T rows (tokens) at once, H heads and K key-value heads of D elements, G = H / K heads
in a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Array = Any
"""A `numpy.ndarray` of float32, tokens aside."""

Allowed = Any
"""Which tokens may be drawn: a `numpy.ndarray` (ceil(vocabulary / 32),) uint32, bit i of word w for token 32 w + i."""

MAX_TOP = 20
"""The number of most likely tokens that a draw tells, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to choose a token. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 are off."""

    temperature: float
    top_p: float
    top_k: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """A chosen token. Natural logarithms, of the raw logits, before temperature and cut-offs.

    `logprob` is the chosen token's, `entropy` in nats, `margin` the most likely token's logprob less the
    second's. `top` are the most likely tokens, as many as were asked for, with their logprobs: most likely first,
    equal ones by id. What may not be drawn has its part in all of them.
    """

    id: int
    logprob: float
    entropy: float
    margin: float
    top: tuple[tuple[int, float], ...] = ()


class Ops(Protocol):
    """The fused steps of a Llama-like decoder on one device."""

    @property
    def backend(self) -> str:
        """The name of the backend in every record."""

    @property
    def device(self) -> str:
        """What it runs on, in words."""

    def empty(self, shape: tuple[int, ...]) -> Array:
        """An uninitialised float32 array."""

    def embed(self, tokens: Array, table: Array, out: Array) -> None:
        """Out (T, hidden) = table rows of `tokens` (T,) int32, a host array."""

    def rms(self, x: Array, gain: Array, eps: float, out: Array) -> None:
        """Out (T, n) = x / sqrt(mean(x^2) + eps) * gain (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def rms_qkv(
        self, x: Array, gain: Array, weight: Array, bias: Array | None, eps: float, normed: Array, out: Array
    ) -> None:
        """Out (T, (H + 2K) D) = rms(x) weight + bias. `normed` (T, hidden) is scratch."""

    def rope_kv_write(
        self,
        qkv: Array,
        gain: Array | None,
        eps: float,
        rotation: Array,
        start: int,
        q: Array,
        keys: Array,
        values: Array,
    ) -> None:
        """Norms (where `gain` (H + K, D) is given) and rotates heads; fills q and the cache from `start` on.

        `qkv` (T, (H + 2K) D) is used up. `rotation` (T, D): the complex numbers exp(i position frequency) as
        pairs, for these T positions. q is (K, G, T, D), scaled by 1 / sqrt(D). keys (K, D, capacity) and
        values (K, capacity, D) get positions start..start + T.
        """

    def attend(self, q: Array, keys: Array, values: Array, start: int, out: Array) -> None:
        """Causal attention of T queries at positions start..start + T over the cache; out (T, H D)."""

    def project_residual(self, x: Array, weight: Array, projected: Array, residual: Array) -> None:
        """Residual (T, hidden) += x (T, n) weight (n, hidden). `projected` (T, hidden) is scratch."""

    def rms_swiglu(
        self, x: Array, gain: Array, weight: Array, eps: float, normed: Array, both: Array, out: Array
    ) -> None:
        """Out (T, ffn) = silu(gate) * up, where gate and up are the halves of rms(x) weight.

        `normed` (T, hidden) and `both` (T, 2 ffn) are scratch. SwiGLU: Shazeer 2020, arXiv:2002.05202.
        """

    def lm_head(self, x: Array, gain: Array, weight: Array, eps: float, normed: Array, out: Array) -> None:
        """Out (T, vocabulary) = rms(x) weight; `normed` (T, hidden) is scratch."""

    def sample(
        self,
        logits: Array,
        params: SamplingParams,
        step: int,
        *,
        allowed: Allowed | None = None,
        top: int = 0,
    ) -> Sampled:
        """The token for `step`, from `logits` (vocabulary,), with its logprob and entropy.

        It is one of those `allowed`, at least one; of any, if None. `top` is how many of the most likely ones are told
        with it, at most `MAX_TOP`. The same arguments give the same token, bit for bit. Raises `TreniError` when the
        logits hold NaN or infinity: no answer is made of them.
        """
