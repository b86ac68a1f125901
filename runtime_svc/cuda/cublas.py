"""cuBLAS through its C interface: CuPy's own wrapper refuses to work while a stream is being captured."""

from __future__ import annotations

import ctypes
from typing import ClassVar

from runtime_svc.cuda import libraries
from runtime_svc.cuda.device import Product
from treni.errors import Code, TreniError

_TRANSPOSED, _AS_IT_IS = 1, 0
_FLOAT, _BF16 = 0, 14
_SUM_IN_FLOAT = 68
_CHOOSE = -1
_POINTER = ctypes.c_void_p
_INT = ctypes.c_int


class Cublas:
    """A handle with its own workspace on one stream.

    With a fixed workspace and stream, cuBLAS gives the same bits for the same shapes and values.
    """

    WORKSPACE: ClassVar[int] = 32 * 1024 * 1024
    """Bytes that NVIDIA recommends on Hopper."""

    def __init__(self, stream: int, workspace: int) -> None:
        self._library = libraries.load("libcublas.so.13", needs=("libcublasLt.so.13",))
        self._handle = _POINTER()
        self._check(self._library.cublasCreate_v2(ctypes.byref(self._handle)))
        self._check(self._library.cublasSetStream_v2(self._handle, _POINTER(stream)))
        size = ctypes.c_size_t(self.WORKSPACE)
        self._check(self._library.cublasSetWorkspace_v2(self._handle, _POINTER(workspace), size))
        self._one, self._zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
        self._gemm = self._library.cublasGemmEx
        matrix = (_POINTER, _INT, _INT)
        self._gemm.argtypes = (
            *(_POINTER, _INT, _INT, _INT, _INT, _INT, _POINTER),
            *(*matrix, *matrix, _POINTER, *matrix, _INT, _INT),
        )

    def close(self) -> None:
        """Gives the handle back."""
        self._check(self._library.cublasDestroy_v2(self._handle))

    def multiply(
        self, x: int, weight: int, out: int, rows: int, outputs: int, inputs: int, *, into: Product
    ) -> None:
        """See `device.Device.multiply`.

        cuBLAS counts columns first, so this is out^T (outputs, rows) = weight (outputs, inputs) x^T, in which
        the weight is the transpose of what cuBLAS takes its bytes for.
        """
        kind = _BF16 if into is Product.BF16 else _FLOAT
        self._check(
            self._gemm(
                *(self._handle, _TRANSPOSED, _AS_IT_IS, outputs, rows, inputs),
                *(ctypes.byref(self._one), weight, _BF16, inputs, x, _BF16, inputs),
                *(ctypes.byref(self._one if into is Product.ADD else self._zero), out, kind, outputs),
                *(_SUM_IN_FLOAT, _CHOOSE),
            )
        )

    def _check(self, status: int) -> None:
        if status != 0:
            self._library.cublasGetStatusString.restype = ctypes.c_char_p
            raise TreniError(
                Code.INTERNAL,
                "device_failed",
                expected="cuBLAS to work",
                got=self._library.cublasGetStatusString(status).decode(),
                todo="restart the runtime; when it comes back, look at the device's log",
            )
