"""CUDA's context, made beside Python's imports: both take a quarter of a second. Imports the standard library only."""

from __future__ import annotations

import ctypes
import threading
from functools import cache


@cache
def begin() -> threading.Thread:
    """Starts making the first device's context in the background, once; who uses the device finds it made, or waits.

    Where it cannot be made nothing happens: `CudaDevice` says why. The interpreter does not end before the thread.
    """
    thread = threading.Thread(target=_make, name="cuda-context")
    thread.start()
    return thread


def _make() -> None:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if library.cuInit(0) == 0 and library.cuDeviceGet(ctypes.byref(device), 0) == 0:
        # Never released: CuPy's runtime takes the same one, and both hold it for as long as the process lives.
        library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
