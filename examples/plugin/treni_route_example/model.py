"""An architecture: Qwen3's blocks under a name and a type of their own."""

from __future__ import annotations

from dataclasses import replace

from runtime_svc.models.qwen3 import QWEN3

EXAMPLE = replace(QWEN3, name="ExampleForCausalLM", model_type="example")
