"""Whether this machine has what the backend needs, told without holding a device: no context is made."""

from __future__ import annotations

import ctypes
import importlib.util

from runtime_svc.backends.cuda.libraries import unavailable

_MAJOR = 75
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR."""


def refuse_absent() -> None:
    """Raises FAILED_PRECONDITION "backend_unavailable" without CuPy, a driver, or a first GPU of capability 9.0."""
    instead = "install treni-route[cupy] on a machine with a Hopper GPU, or use --backend numpy"
    if importlib.util.find_spec("cupy") is None:
        raise unavailable("CuPy", "no module named 'cupy'", instead)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise unavailable("NVIDIA's driver", str(error), instead) from None
    device, major = ctypes.c_int(), ctypes.c_int()
    calls: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("cuInit", (0,)),
        ("cuDeviceGet", (ctypes.byref(device), 0)),
        ("cuDeviceGetAttribute", (ctypes.byref(major), _MAJOR, device)),
    )
    for name, arguments in calls:
        if code := getattr(driver, name)(*arguments):
            raise unavailable("an NVIDIA GPU", f"{name} says {code}", instead)
    if major.value != 9:
        raise unavailable("a GPU of compute capability 9.0 (Hopper)", f"{major.value}", instead)
