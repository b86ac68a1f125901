"""Llama 2 and 3, and what is built like them, such as SmolLM2: neither biases nor norms (arXiv:2302.13971)."""

from runtime_svc.models.architecture import Architecture
from runtime_svc.models.dense import dense_config, dense_tensors
from runtime_svc.models.state import KEYS_AND_VALUES

LLAMA = Architecture(
    name="LlamaForCausalLM",
    model_type="llama",
    config=dense_config,
    tensors=dense_tensors,
    state=KEYS_AND_VALUES,
    defaults={"max_position_embeddings": 2048},
    only={"attention_bias": False, "mlp_bias": False},
)
