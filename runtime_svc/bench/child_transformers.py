"""Hugging Face transformers as a contender: eager, or with a compiled step over a static cache.

The loop is the least that transformers needs for a token: the model's forward and an argmax, without what
`generate` does around them, and the tokens stay on the device until the last one. Both favour this peer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from runtime_svc.bench.child import ChildSettings, Stages, serve


def imports(_settings: ChildSettings) -> Mapping[str, str]:
    """Torch, transformers, and the classes that are loaded lazily."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, DynamicCache, StaticCache  # noqa: F401

    return {"torch": torch.__version__, "transformers": transformers.__version__}


class Eager:
    """One kernel after another, with the cache that grows (`DynamicCache`)."""

    def __init__(self, settings: ChildSettings, stages: Stages) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(settings.threads)
        self.versions = imports(settings)
        self._torch = torch
        self._settings = settings
        dtype = getattr(torch, settings.dtype)
        self._model: Any = AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype).eval()
        stages.mark("weights")
        if settings.device == "cuda":
            self._model.to("cuda")
            torch.cuda.synchronize()
            stages.mark("upload")
        self.device = torch.cuda.get_device_name() if settings.device == "cuda" else "cpu"
        self._cache: Any = None
        self._next: Any = None

    def prefill(self, prompts: list[list[int]], room: int) -> None:
        """One forward over all prompts."""
        with self._torch.inference_mode():
            self._cache = self._new_cache(prompts, room)
            ids = self._torch.tensor(prompts, device=self._settings.device)
            self._next = self._forward(ids)
            self._next.tolist()

    def decode(self, tokens: int, limit_s: float) -> int:
        """One forward a token."""
        until_s, made = time.perf_counter() + limit_s, 0
        with self._torch.inference_mode():
            while made < tokens and time.perf_counter() < until_s:
                self._next = self._step(self._next)
                made += 1
            self._next.tolist()
        return made

    def floors(self) -> dict[str, float]:
        """None: this runtime measures them."""
        return {}

    def _new_cache(self, prompts: list[list[int]], room: int) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._model.config)

    def _forward(self, ids: Any) -> Any:
        out = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True)

    def _step(self, ids: Any) -> Any:
        return self._forward(ids)


class Compiled(Eager):
    """The step of one token compiled with CUDA graphs (`reduce-overhead`), over a `StaticCache`; eager prefill.

    A graph belongs to one batch size and one cache, so each batch size keeps its own.
    """

    def __init__(self, settings: ChildSettings, stages: Stages) -> None:
        super().__init__(settings, stages)
        self._caches: dict[int, Any] = {}
        self._compiled = self._torch.compile(self._forward_over, mode="reduce-overhead", dynamic=False)

    def _forward_over(self, ids: Any, cache: Any) -> Any:
        out = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True)

    def _new_cache(self, prompts: list[list[int]], room: int) -> Any:
        from transformers import StaticCache

        if room == 0:
            return StaticCache(config=self._model.config, max_cache_len=len(prompts[0]))
        kept = self._caches.get(len(prompts))
        if kept is None:
            length = self._settings.decode_capacity
            kept = self._caches[len(prompts)] = StaticCache(config=self._model.config, max_cache_len=length)
        else:
            kept.reset()
        return kept

    def _step(self, ids: Any) -> Any:
        self._torch.compiler.cudagraph_mark_step_begin()
        # A replay overwrites the output of the replay before, which is this one's input.
        return self._compiled(ids, self._cache).clone()


if __name__ == "__main__":
    raise SystemExit(serve(imports, Compiled if sys.argv[2:] == ["compiled"] else Eager))
