"""Matrix products by cuBLASLt through its C interface: CuPy's own wrapper refuses to work while a stream records."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, ClassVar

from runtime_svc.cuda import libraries
from runtime_svc.cuda.device import Product
from treni.errors import Code, TreniError

_FLOAT, _BF16 = 0, 14
_SUM_IN_FLOAT = 68
_TRANSPOSE_A = 3
_WORKSPACE_BYTES = 1
_CANDIDATES = 8
_NOT_SUPPORTED = 15
_POINTER = ctypes.c_void_p

_TUNED_FOR = 130100
_BEST: dict[tuple[int, int, int], int] = {
    (16, 6144, 2560): 1,
    (16, 19456, 2560): 6,
    (16, 2048, 11008): 3,
    (128, 1024, 2048): 3,
    (128, 1024, 3072): 1,
    (128, 2048, 2048): 1,
    (128, 22016, 2048): 4,
    (128, 2048, 11008): 1,
    (512, 4096, 1024): 6,
    (512, 1024, 2048): 3,
    (512, 6144, 1024): 2,
    (512, 6144, 2560): 2,
    (2048, 4096, 1024): 3,
    (2048, 6144, 1024): 7,
    (2048, 2560, 2048): 1,
    (2048, 2048, 2048): 2,
    (2048, 2048, 11008): 2,
    (2048, 6144, 2560): 7,
    (2048, 2560, 4096): 4,
    (2048, 19456, 2560): 2,
    (2048, 2560, 9728): 1,
}
"""Which of cuBLASLt's candidates was fastest on an H200, by (rows, outputs, inputs), where it is not the first.

Fixed here, not timed at start: a choice by the clock would change an answer's last bits from one process to the next.
The order of candidates is the library's own, so the table holds for the version that it was measured with.
"""


class _Heuristic(ctypes.Structure):
    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything about one shape of product but the addresses."""

    operation: Any
    weight: Any
    x: Any
    out: Any
    heuristic: _Heuristic
    beta: ctypes.c_float


class Cublas:
    """Products on one stream, with a workspace of their own.

    The same shapes and values give the same bits: the algorithm is fixed by the shape, and the stream by the device.
    """

    WORKSPACE: ClassVar[int] = 64 * 1024 * 1024
    """Bytes; splitting the inner dimension takes most."""

    def __init__(self, stream: int, workspace: int) -> None:
        self._library = libraries.load("libcublasLt.so.13")
        self._stream = _POINTER(stream)
        self._workspace = _POINTER(workspace)
        self._one = ctypes.c_float(1.0)
        self._plans: dict[tuple[int, int, int, Product], _Plan] = {}
        self._library.cublasLtGetVersion.restype = ctypes.c_size_t
        self._tuned = self._library.cublasLtGetVersion() == _TUNED_FOR
        self._handle = _POINTER()
        self._check(self._library.cublasLtCreate(ctypes.byref(self._handle)))

    def close(self) -> None:
        """Gives the handle back."""
        self._check(self._library.cublasLtDestroy(self._handle))

    def multiply(
        self, x: int, weight: int, out: int, rows: int, outputs: int, inputs: int, *, into: Product
    ) -> None:
        """See `device.Device.multiply`."""
        key = (rows, outputs, inputs, into)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(*key)
        self._check(
            self._library.cublasLtMatmul(
                *(self._handle, plan.operation, ctypes.byref(self._one)),
                *(_POINTER(weight), plan.weight, _POINTER(x), plan.x, ctypes.byref(plan.beta)),
                *(_POINTER(out), plan.out, _POINTER(out), plan.out),
                *(
                    ctypes.byref(plan.heuristic),
                    self._workspace,
                    ctypes.c_size_t(self.WORKSPACE),
                    self._stream,
                ),
            )
        )

    def _plan(self, rows: int, outputs: int, inputs: int, into: Product) -> _Plan:
        """CuBLAS counts columns first, so a row-major array is its own transpose.

        Out^T (outputs, rows) = weight (outputs, inputs) x^T, in which the weight is the transpose of what its bytes
        are taken for.
        """
        operation, preference = _POINTER(), _POINTER()
        yes, limit = ctypes.c_int(1), ctypes.c_uint64(self.WORKSPACE)
        call = self._library
        self._check(call.cublasLtMatmulDescCreate(ctypes.byref(operation), _SUM_IN_FLOAT, _FLOAT))
        self._check(call.cublasLtMatmulDescSetAttribute(operation, _TRANSPOSE_A, ctypes.byref(yes), 4))
        weight = self._matrix(_BF16, inputs, outputs)
        x = self._matrix(_BF16, inputs, rows)
        out = self._matrix(_BF16 if into is Product.BF16 else _FLOAT, outputs, rows)
        self._check(call.cublasLtMatmulPreferenceCreate(ctypes.byref(preference)))
        self._check(
            call.cublasLtMatmulPreferenceSetAttribute(preference, _WORKSPACE_BYTES, ctypes.byref(limit), 8)
        )
        found, count = (_Heuristic * _CANDIDATES)(), ctypes.c_int()
        arguments = (self._handle, operation, weight, x, out, out, preference, _CANDIDATES)
        self._check(call.cublasLtMatmulAlgoGetHeuristic(*arguments, found, ctypes.byref(count)))
        self._check(call.cublasLtMatmulPreferenceDestroy(preference))
        if count.value == 0:
            self._check(_NOT_SUPPORTED)
        best = _BEST.get((rows, outputs, inputs), 0) if self._tuned else 0
        beta = ctypes.c_float(1.0 if into is Product.ADD else 0.0)
        return _Plan(operation, weight, x, out, found[min(best, count.value - 1)], beta)

    def _matrix(self, kind: int, rows: int, columns: int) -> ctypes.c_void_p:
        """Columns one after the other, each `rows` elements."""
        layout = _POINTER()
        size, count, pitch = ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows)
        self._check(self._library.cublasLtMatrixLayoutCreate(ctypes.byref(layout), kind, size, count, pitch))
        return layout

    def _check(self, status: int) -> None:
        if status != 0:
            self._library.cublasLtGetStatusString.restype = ctypes.c_char_p
            raise TreniError(
                Code.INTERNAL,
                "device_failed",
                expected="cuBLASLt to work",
                got=self._library.cublasLtGetStatusString(status).decode(),
                todo="restart the runtime; when it comes back, look at the device's log",
            )
