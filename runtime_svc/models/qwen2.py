"""Qwen2 and Qwen2.5: biases on queries, keys and values (arXiv:2407.10671)."""

from runtime_svc.models.architecture import Architecture, Blocks
from runtime_svc.models.dense import dense_config, dense_tensors
from runtime_svc.models.state import KEYS_AND_VALUES

QWEN2 = Architecture(
    name="Qwen2ForCausalLM",
    model_type="qwen2",
    config=dense_config,
    tensors=dense_tensors,
    state=KEYS_AND_VALUES,
    blocks=Blocks(qkv_bias=True),
    defaults={"max_position_embeddings": 32768},
)
