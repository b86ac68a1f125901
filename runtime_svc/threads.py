"""How many threads the linear algebra library may use. Imports nothing that imports NumPy."""

from __future__ import annotations

import os

_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def limit_blas_threads(count: int = 1) -> None:
    """Sets the limit for this process, unless its environment already does. Call before importing NumPy.

    One is the default: a decode step of a small model is many products of some 10 us each, where a second
    thread costs more in hand-over than it computes, and a great deal more when its core is shared.
    """
    for variable in _VARIABLES:
        os.environ.setdefault(variable, str(count))
