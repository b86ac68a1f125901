"""Rotary frequencies of a checkpoint, from either place where its config may keep them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime_svc.errors import damaged, unsupported

_TURNS_AT_ONCE = 4096


def inverse_frequencies(
    path: Path, config: Mapping[str, Any], head_dim: int
) -> tuple[tuple[float, ...], float]:
    """The `head_dim / 2` angles in radians per position, and the factor on rotated queries and keys.

    Types "default", "linear", "llama3" (Dubey et al. 2024, arXiv:2407.21783, as transformers computes it) and "yarn"
    (Peng et al. 2023, arXiv:2309.00071) are known; others raise.
    """
    scaling = _settings(path, config)
    theta = _number(path, _first(10_000.0, scaling.get("rope_theta"), config.get("rope_theta")), "rope_theta")
    turning = _first(1.0, scaling.get("partial_rotary_factor"), config.get("partial_rotary_factor"))
    if turning != 1:
        raise unsupported(path, expected="partial_rotary_factor 1", got=repr(turning))
    plain = [theta ** (-2 * i / head_dim) for i in range(head_dim // 2)]
    match _first("default", scaling.get("rope_type"), scaling.get("type")):
        case "default":
            return tuple(plain), 1.0
        case "linear":
            factor = _number(path, scaling.get("factor"), "factor")
            return tuple(f / factor for f in plain), 1.0
        case "llama3":
            return _llama3(path, config, scaling, plain), 1.0
        case "yarn":
            return _yarn(path, config, scaling, theta, plain)
        case kind:
            wanted = 'rope_type "default", "linear", "llama3" or "yarn"'
            raise unsupported(path, expected=wanted, got=repr(kind))


def _settings(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object of RoPE's settings: `rope_scaling`, which goes first as in transformers 5, or `rope_parameters`.

    transformers 5 may nest them by type of layer: those of full attention are taken, since all layers have it.
    """
    for key in ("rope_scaling", "rope_parameters"):
        found = config.get(key) or {}
        if isinstance(found, Mapping) and "full_attention" in found:
            found = found["full_attention"]
        if not isinstance(found, Mapping):
            raise damaged(path, key, expected="an object", got=repr(found)[:80])
        if found:
            return found
    return {}


def _first(default: Any, *values: Any) -> Any:
    """The first of the values that is not null."""
    return next((value for value in values if value is not None), default)


def turns(frequencies: Sequence[float], scale: float, length: int) -> npt.NDArray[np.float32]:
    """Scale * exp(i position frequency), (length, 2 frequencies) as pairs of cosine and sine; arXiv:2104.09864."""
    table = np.empty((length, len(frequencies)), np.complex64)
    for first in range(
        0, length, _TURNS_AT_ONCE
    ):  # in float64, of which a long context would fill the memory
        positions = np.arange(first, min(first + _TURNS_AT_ONCE, length), dtype=np.float64)
        table[first : first + len(positions)] = np.exp(1j * np.outer(positions, frequencies)) * scale
    return table.view(np.float32)


def _llama3(
    path: Path, config: Mapping[str, Any], scaling: Mapping[str, Any], plain: list[float]
) -> tuple[float, ...]:
    """Short waves as they are, long ones slowed down by the factor, and a blend of the two in between."""
    factor = _number(path, scaling.get("factor"), "factor")
    low = _number(path, scaling.get("low_freq_factor"), "low_freq_factor")
    high = _number(path, scaling.get("high_freq_factor"), "high_freq_factor")
    trained = _trained_length(path, config, scaling)
    if high <= low:
        raise damaged(path, "high_freq_factor", expected=f"over low_freq_factor {low}", got=f"{high}")

    def slowed(frequency: float) -> float:
        turns_made = trained * frequency / (2 * math.pi)
        kept = min(max((turns_made - low) / (high - low), 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / factor

    return tuple(slowed(frequency) for frequency in plain)


def _trained_length(path: Path, config: Mapping[str, Any], scaling: Mapping[str, Any]) -> float:
    """The context in tokens before it was stretched; a setting beside RoPE's own goes first, as in transformers."""
    key = "original_max_position_embeddings"
    given = _first(config.get("max_position_embeddings"), config.get(key), scaling.get(key))
    return _number(path, given, key)


def _yarn(
    path: Path, config: Mapping[str, Any], scaling: Mapping[str, Any], theta: float, plain: list[float]
) -> tuple[tuple[float, ...], float]:
    """High frequencies as they are, low ones divided by the factor, a linear ramp between (section 3.2)."""
    if theta <= 1:
        raise damaged(path, "rope_theta", expected="over 1 with YaRN", got=f"{theta}")
    factor = _number(path, scaling.get("factor"), "factor")
    trained = _trained_length(path, config, scaling)
    half = len(plain)

    def dimension(rotations: float) -> float:
        """The pair that makes `rotations` turns over the trained context."""
        return half * math.log(trained / (rotations * 2 * math.pi)) / math.log(theta)

    low = dimension(_number(path, _first(32.0, scaling.get("beta_fast")), "beta_fast"))
    high = dimension(_number(path, _first(1.0, scaling.get("beta_slow")), "beta_slow"))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    span = high - low if high != low else 0.001

    def blended(i: int) -> float:
        interpolate = min(max((i - low) / span, 0.0), 1.0)
        return plain[i] * (1 - interpolate) + plain[i] / factor * interpolate

    return tuple(blended(i) for i in range(half)), _attention_scale(path, scaling, factor)


def _attention_scale(path: Path, scaling: Mapping[str, Any], factor: float) -> float:
    """The factor on queries and keys: given, or by the paper's equation 22, which two weights may change."""

    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    given = scaling.get("attention_factor")
    if given is not None:
        return _number(path, given, "attention_factor")
    above, below = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if above and below:  # as transformers has it: either alone, or 0, changes nothing
        return grown(_number(path, above, "mscale")) / grown(_number(path, below, "mscale_all_dim"))
    return grown(1.0)


def _number(path: Path, value: object, name: str) -> float:
    """Within bounds that no published value comes near, and in which nothing computed from it overflows."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-9 <= value <= 1e12:
        raise damaged(path, name, expected="a number from 1e-9 to 1e12", got=repr(value))
    return float(value)
