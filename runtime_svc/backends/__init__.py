"""The backends by name. Importing this package imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from runtime_svc.backends.backend import Backend
from runtime_svc.backends.cuda import CUPY
from runtime_svc.backends.numpy import NUMPY

BACKENDS: Mapping[str, Backend] = MappingProxyType({backend.name: backend for backend in (NUMPY, CUPY)})
"""The reference on the CPU, and the one for NVIDIA's Hopper GPUs. No backend stands in for another."""
