"""The contender vLLM: offline, its engine stepped as its own server steps it, prefix caching off."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from runtime_svc.bench.child import ChildSettings, Stages, serve

_MEMORY_SHARE = 0.8
"""Of the memory that is free when it starts; other contenders hold theirs already."""


def imports(_settings: ChildSettings) -> Mapping[str, str]:
    """The engine and the torch under it."""
    import vllm

    return {"vllm": vllm.__version__, "torch": metadata.version("torch")}


class Vllm:
    """`LLMEngine` with its defaults (compilation, CUDA graphs) but for the length, the memory and the cache."""

    def __init__(self, settings: ChildSettings, stages: Stages) -> None:
        import torch
        import vllm

        free, total = torch.cuda.mem_get_info()
        llm = vllm.LLM(
            model=settings.model,
            dtype=settings.dtype,
            max_model_len=settings.capacity + 1,  # it counts the token that the last one predicts
            max_num_seqs=settings.slots,
            gpu_memory_utilization=round(_MEMORY_SHARE * free / total, 2),
            enable_prefix_caching=False,
            skip_tokenizer_init=True,  # tokens in, tokens out, as everybody here
        )
        self._engine: Any = llm.llm_engine
        self._params = vllm.SamplingParams
        self.versions = imports(settings)
        self.device = torch.cuda.get_device_name()
        self._requests = 0
        self._made: dict[str, int] = {}

    def prefill(self, prompts: list[list[int]], room: int) -> None:
        """Adds the requests and steps until each has a token."""
        self._drop()
        for prompt in prompts:
            self._requests += 1
            name = str(self._requests)
            params = self._params(temperature=0.0, max_tokens=room + 1, ignore_eos=True, detokenize=False)
            self._engine.add_request(name, {"prompt_token_ids": prompt}, params)
            self._made[name] = 0
        self._step_until(1, float("inf"))

    def decode(self, tokens: int, limit_s: float) -> int:
        """Steps until each has that many more."""
        had = min(self._made.values())
        self._step_until(had + tokens, limit_s)
        return min(self._made.values()) - had

    def floors(self) -> dict[str, float]:
        """None: this runtime measures them."""
        return {}

    def _step_until(self, tokens: int, limit_s: float) -> None:
        until_s = time.perf_counter() + limit_s
        while min(self._made.values()) < tokens and time.perf_counter() < until_s:
            for output in self._engine.step():
                if output.request_id in self._made:
                    self._made[output.request_id] = len(output.outputs[0].token_ids)

    def _drop(self) -> None:
        if self._engine.has_unfinished_requests():
            self._engine.abort_request(list(self._made))
            while self._engine.has_unfinished_requests():
                self._engine.step()
        self._made = {}


if __name__ == "__main__":
    raise SystemExit(serve(imports, Vllm))
