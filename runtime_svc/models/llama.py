"""Llama 2 and 3, and what is built like them, such as SmolLM2: neither biases nor norms (arXiv:2302.13971)."""

from runtime_svc.models.architecture import Architecture

LLAMA = Architecture(
    name="LlamaForCausalLM",
    model_type="llama",
    defaults={"max_position_embeddings": 2048},
    only={"attention_bias": False, "mlp_bias": False},
)
