"""Arrays to and from a device, bfloat16 as bits (uint16), and the bounds of the parity tests."""

import numpy as np
import numpy.typing as npt

from runtime_svc.backends.cuda.device import Device

FLOAT_BOUND, BF16_BOUND = 1e-5, 5e-3
"""Relative L2 error against float64 that float32 and bfloat16 outputs may have."""

F16_BOUND = BF16_BOUND / 8
"""The same of halves, which have three bits more."""


def values(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def widened(bits: np.ndarray) -> npt.NDArray[np.float32]:
    """float32 of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(array: np.ndarray) -> npt.NDArray[np.uint16]:
    """bfloat16 bits of float values, rounded to nearest even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def put(device: Device, array: np.ndarray) -> int:
    """The address of a copy on the device."""
    array = np.ascontiguousarray(array)
    address = device.allocate(array.nbytes)
    device.upload(address, array)
    return address


def poisoned(device: Device, shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    """The address of an output full of NaN, as float32, as halves or as bfloat16 bits."""
    return put(device, np.full(shape, 0x7FFF if dtype is np.uint16 else np.nan, dtype))


def take(
    device: Device, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> npt.NDArray[np.float32]:
    """The device's array, bfloat16 and halves widened."""
    out = np.empty(shape, dtype)
    device.download(address, out)
    return widened(out) if dtype is np.uint16 else out.astype(np.float32)


def check(actual: np.ndarray, expected: np.ndarray, bound: float) -> None:
    """Relative L2 error in float64; NaN never passes."""
    expected = np.asarray(expected, np.float64)
    error = np.linalg.norm(actual.astype(np.float64) - expected) / np.linalg.norm(expected)
    assert error <= bound
