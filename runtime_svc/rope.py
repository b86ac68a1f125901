"""Rotary frequencies of a checkpoint, from either place where its config may keep them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime_svc.errors import damaged, unsupported


def inverse_frequencies(
    path: Path, config: Mapping[str, Any], head_dim: int
) -> tuple[tuple[float, ...], float]:
    """The `head_dim / 2` angles in radians per position, and the factor on rotated queries and keys.

    transformers 5 writes `rope_parameters`, earlier versions `rope_theta` beside `rope_scaling`. Types
    "default", "linear" and "yarn" (Peng et al. 2023, arXiv:2309.00071) are known; others raise.
    """
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise damaged(path, "rope_parameters", expected="an object", got=repr(scaling))
    theta = _number(path, scaling.get("rope_theta", config.get("rope_theta", 10_000.0)), "rope_theta")
    plain = [theta ** (-2 * i / head_dim) for i in range(head_dim // 2)]
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return tuple(plain), 1.0
    if kind == "linear":
        factor = _number(path, scaling.get("factor"), "factor")
        return tuple(f / factor for f in plain), 1.0
    if kind == "yarn":
        return _yarn(path, config, scaling, theta, plain)
    raise unsupported(path, expected='rope_type "default", "linear" or "yarn"', got=repr(kind))


def turns(frequencies: Sequence[float], scale: float, length: int) -> npt.NDArray[np.float32]:
    """Scale * exp(i position frequency), (length, 2 frequencies) as pairs of cosine and sine; arXiv:2104.09864."""
    angles = np.outer(np.arange(length, dtype=np.float64), np.asarray(frequencies))
    return (np.exp(1j * angles) * scale).astype(np.complex64).view(np.float32)


def _yarn(
    path: Path, config: Mapping[str, Any], scaling: Mapping[str, Any], theta: float, plain: list[float]
) -> tuple[tuple[float, ...], float]:
    """High frequencies as they are, low ones divided by the factor, a linear ramp between (section 3.2)."""
    if theta <= 1:
        raise damaged(path, "rope_theta", expected="over 1 with YaRN", got=f"{theta}")
    factor = _number(path, scaling.get("factor"), "factor")
    trained = _number(
        path,
        scaling.get("original_max_position_embeddings", config.get("max_position_embeddings")),
        "original_max_position_embeddings",
    )
    half = len(plain)

    def dimension(rotations: float) -> float:
        """The pair that makes `rotations` turns over the trained context."""
        return half * math.log(trained / (rotations * 2 * math.pi)) / math.log(theta)

    low = dimension(_number(path, scaling.get("beta_fast", 32.0), "beta_fast"))
    high = dimension(_number(path, scaling.get("beta_slow", 1.0), "beta_slow"))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    span = high - low if high != low else 0.001

    def blended(i: int) -> float:
        interpolate = min(max((i - low) / span, 0.0), 1.0)
        return plain[i] * (1 - interpolate) + plain[i] / factor * interpolate

    given = scaling.get("attention_factor")
    scale = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
    return tuple(blended(i) for i in range(half)), scale if given is None else _number(
        path, given, "attention_factor"
    )


def _number(path: Path, value: object, name: str) -> float:
    """Within bounds that no published value comes near, and in which nothing computed from it overflows."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-9 <= value <= 1e12:
        raise damaged(path, name, expected="a number from 1e-9 to 1e12", got=repr(value))
    return float(value)
