"""Qwen3, its dense models: a norm on each query and key head in place of biases (arXiv:2505.09388)."""

from runtime_svc.models.architecture import Architecture, Blocks
from runtime_svc.models.dense import dense_config, dense_tensors
from runtime_svc.models.state import KEYS_AND_VALUES

QWEN3 = Architecture(
    name="Qwen3ForCausalLM",
    model_type="qwen3",
    config=dense_config,
    tensors=dense_tensors,
    state=KEYS_AND_VALUES,
    blocks=Blocks(qk_norm=True),
    defaults={"head_dim": 128, "max_position_embeddings": 32768},
    only={"attention_bias": False},
)
