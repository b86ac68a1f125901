"""Qwen2 and Qwen2.5: biases on queries, keys and values (arXiv:2407.10671)."""

from runtime_svc.models.architecture import Architecture, Blocks

QWEN2 = Architecture(
    name="Qwen2ForCausalLM",
    model_type="qwen2",
    blocks=Blocks(qkv_bias=True),
    defaults={"max_position_embeddings": 32768},
)
