"""The architectures that are known: a file each, and those that installed packages add."""

from __future__ import annotations

from runtime_svc.models.architecture import Architecture
from runtime_svc.models.llama import LLAMA
from runtime_svc.models.qwen2 import QWEN2
from runtime_svc.models.qwen3 import QWEN3
from treni.plugins import Plugins

ARCHITECTURES: Plugins[Architecture] = Plugins(
    "treni_route.models", Architecture, lambda architecture: architecture.name, (LLAMA, QWEN2, QWEN3)
)
"""The architectures by the first of `architectures` in `config.json`."""


def of_type(model_type: object) -> Architecture | None:
    """The architecture whose configs have that `model_type`, if there is one."""
    return next((found for found in ARCHITECTURES.values() if found.model_type == model_type), None)
