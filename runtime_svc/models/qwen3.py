"""Qwen3, its dense models: a norm on each query and key head in place of biases (arXiv:2505.09388)."""

from runtime_svc.models.architecture import Architecture, Blocks

QWEN3 = Architecture(
    name="Qwen3ForCausalLM",
    model_type="qwen3",
    blocks=Blocks(qk_norm=True),
    defaults={"head_dim": 128, "max_position_embeddings": 32768},
    only={"attention_bias": False},
)
