"""Compares greedy answers of a GGUF file through the engine with Hugging Face transformers, token by token.

    PYTHONPATH=.:proto python tests/goldens/compare_gguf.py MODEL.gguf --backend cupy --device cuda

Needs torch and transformers (the "train" extra). What the engine reads is not used for the reference. At every
position of every answer transformers sees the prompt and the answer so far, in float32, and says which token it would
take, and by how much.
Exit status 1 when fewer than 99.5 % of the tokens are its own, or one of those that are clear is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from runtime_svc.engine import Engine
from treni.v1 import common_pb2, inference_pb2

SHARE = 0.995
CLEAR_GAP = 0.1
"""Top-2 difference of the reference's logits from which on the token must be the same."""

NAMES = {
    "blk.": "model.layers.",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "output.weight": "lm_head.weight",
}
"""Parts of transformers' names by llama.cpp's."""

PROMPTS = [
    "What is the capital of France?",
    "I have 3 apples and buy 4 more. How many do I have?",
    "Write a haiku about the sea.",
    "Name three primary colours.",
    "Translate 'good morning' into Spanish.",
    "Explain gravity to a child in one sentence.",
    "What is 12 times 8?",
    "List the days of the week.",
    "Who wrote Romeo and Juliet?",
    "Give me a synonym for 'happy'.",
    "Write a Python function that adds two numbers.",
    "What do bees make?",
    "Which planet is known as the red planet?",
    "How do you say 'thank you' in French?",
    "Complete: Roses are red, violets are",
    "What is the boiling point of water in °C?",
    "Is 17 a prime number?",
    "Write a short story about a dog who learns to read.",
    "Erzähl mir einen Witz.",
    "你好，你是谁？",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The ids of a rendered prompt and of its greedy answer, with the logprob and entropy of each of those."""

    prompt: list[int]
    ids: list[int]
    logprobs: list[float]
    entropies: list[float]


def main() -> int:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--backend", default="numpy", choices=["numpy", "cupy"])
    parser.add_argument("--device", default="cpu", help="torch's, such as cuda")
    parser.add_argument(
        "--prompts", type=Path, help='a JSONL file with a "prompt" a line, in place of our twenty'
    )
    parser.add_argument("--count", type=int, help="of prompts, the first ones")
    parser.add_argument("--tokens", type=int, default=96, help="that an answer has at most")
    options = parser.parse_args()
    prompts = PROMPTS
    if options.prompts is not None:
        rows = options.prompts.read_text(encoding="utf-8").split("\n")
        prompts = [json.loads(row)["prompt"] for row in rows if row.strip()]
    answers = our_answers(options.model, options.backend, prompts[: options.count], options.tokens)
    figures = compare(answers, reference(options.model, options.device), options.device)
    print(json.dumps({"model": options.model.name, "backend": options.backend, **figures}, indent=1))
    good = figures["equal_share"] >= SHARE and figures["clear_equal"] == figures["clear"] > 0
    return 0 if good else 1


def our_answers(path: Path, backend: str, prompts: list[str], tokens: int) -> list[Answer]:
    """The engine's greedy answers."""
    engine = Engine.load(path, backend=backend, slots=8, slot_tokens=2048)
    answers = []
    for text in prompts:
        request = inference_pb2.GenerateRequest(
            messages=[common_pb2.Message(role="user", content=text)],
            sampling=common_pb2.Sampling(max_new_tokens=tokens),
        )
        *_, last = engine.generate(request)
        drawn = last.finish.tokens
        answers.append(
            Answer(
                prompt=engine.prompt(request),
                ids=[token.id for token in drawn],
                logprobs=[token.logprob for token in drawn],
                entropies=[token.entropy for token in drawn],
            )
        )
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return answers


def reference(path: Path, device: str) -> Any:
    """The model in float32, by transformers, from what the `gguf` package itself reads of the file."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    reader = gguf.GGUFReader(path)

    def stated(key: str, default: Any = None) -> Any:
        field = reader.get_field(key)
        return default if field is None else field.contents()

    kind = stated("general.architecture")

    def setting(key: str, default: Any = None) -> Any:
        return stated(f"{kind}.{key}", default)

    heads, hidden = setting("attention.head_count"), setting("embedding_length")
    kv_heads = setting("attention.head_count_kv", heads)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    config = AutoConfig.for_model(
        kind,
        hidden_size=hidden,
        intermediate_size=setting("feed_forward_length"),
        num_hidden_layers=setting("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=setting("attention.key_length", hidden // heads),
        max_position_embeddings=setting("context_length"),
        rms_norm_eps=float(str(np.float32(setting("attention.layer_norm_rms_epsilon")))),
        rope_parameters={"rope_type": "default", "rope_theta": setting("rope.freq_base", 10000.0)},
        vocab_size=len(stated("tokenizer.ggml.tokens")),
        tie_word_embeddings="output.weight" not in stored,
        attn_implementation="eager",
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    state = {}
    for name, tensor in stored.items():
        values = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
        for part, count in ((".attn_q.", heads), (".attn_k.", kv_heads)):
            if (
                kind == "llama" and part in name
            ):  # its converter puts side by side the rows that turn together
                pairs = values.reshape(count, values.shape[0] // count // 2, 2, -1)
                values = pairs.swapaxes(1, 2).reshape(values.shape)
        state[_transformers_name(name)] = torch.from_numpy(np.array(values))
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = ["lm_head.weight"] if config.tie_word_embeddings else []
    if unexpected or sorted(missing) != tied:
        raise SystemExit(f"expected every tensor in its place, got {missing} missing, {unexpected} left over")
    model.tie_weights()
    return model.to(device).eval()


def _transformers_name(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def compare(answers: list[Answer], model: Any, device: str) -> dict[str, Any]:
    """How many tokens are the reference's, in all and of the clear ones, and how far the statistics are apart."""
    import torch

    equal, gaps, logprob_errors, entropy_errors = [], [], [], []
    for answer in answers:
        ids = torch.tensor([answer.prompt + answer.ids[:-1]], device=device)
        logits = model(ids).logits[0, len(answer.prompt) - 1 :].double()
        chosen = torch.tensor(answer.ids, device=device)
        top = logits.topk(2).values
        logs = torch.log_softmax(logits, dim=-1)
        equal += (logits.argmax(dim=-1) == chosen).tolist()
        gaps += (top[:, 0] - top[:, 1]).tolist()
        told = torch.tensor(answer.logprobs, device=device)
        logprob_errors += (logs.gather(1, chosen[:, None])[:, 0] - told).abs().tolist()
        told = torch.tensor(answer.entropies, device=device)
        entropy_errors += (-(logs.exp() * logs).sum(dim=-1) - told).abs().tolist()
    same, clear = np.array(equal), np.array(gaps) > CLEAR_GAP
    return {
        "prompts": len(answers),
        "positions": len(same),
        "equal": int(same.sum()),
        "equal_share": float(same.mean()),
        "clear": int(clear.sum()),
        "clear_equal": int((same & clear).sum()),
        "logprob_error": {"max": max(logprob_errors), "p99": float(np.quantile(logprob_errors, 0.99))},
        "entropy_error": {"max": max(entropy_errors), "p99": float(np.quantile(entropy_errors, 0.99))},
    }


if __name__ == "__main__":
    sys.exit(main())
