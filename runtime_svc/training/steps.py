"""A training step: loss, gradients, optimizers. On a GPU recorded once for each shape of batch, and replayed.

A step of a model this small is some thousand short kernels: launching them one by one takes the host three times as
long as the GPU needs to run them (measured on an H100: 36 ms and 10 ms).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from runtime_svc.training.model_torch import Decoder
from runtime_svc.training.muon import Muon

_LEARNT_SHARE = 3
"""At most one token in so many is learnt in a batch; the rest of a batch with more is left out."""
_IGNORED = -100
_WARM_UPS = 2


class Stepper:
    """Trains a model in place: Muon for the blocks' matrices, AdamW for the embedding and the gains."""

    def __init__(self, model: Decoder, *, device: str, compiled: bool, recorded: bool) -> None:
        self._model = model
        self._device = device
        self._recorded = recorded
        self._rate = torch.zeros((), device=device)
        self._muon = Muon(p for p in model.layers.parameters() if p.ndim == 2)
        vectors = [p for p in model.parameters() if p.ndim == 1]
        groups = [
            {"params": [model.embed_tokens.weight], "weight_decay": 0.05},
            {"params": vectors, "weight_decay": 0.0},
        ]
        gpu = device == "cuda"
        self._adam = torch.optim.AdamW(groups, lr=self._rate, betas=(0.9, 0.98), fused=gpu, capturable=gpu)
        self._records: dict[tuple[int, ...], _Record] = {}
        self._pool = torch.cuda.graph_pool_handle() if recorded else None
        if compiled:
            for layer in model.layers:
                layer.compile(dynamic=True)

    def step(self, ids: np.ndarray, mask: np.ndarray, rate: float) -> Tensor:
        """One step on (B, T) ids and their mask at a learning rate; the loss before it, () float32."""
        chosen = mask[:, 1:].reshape(-1).nonzero()[0]
        room = ids.size // _LEARNT_SHARE
        chosen = chosen[:room]
        at, targets = np.zeros(room, np.int64), np.full(room, _IGNORED, np.int64)
        at[: len(chosen)] = chosen
        targets[: len(chosen)] = ids[:, 1:].reshape(-1)[chosen]
        inputs = [self._moved(values) for values in (ids.astype(np.int64), at, targets)]
        self._rate.fill_(rate)
        if not self._recorded:
            return self._step(*inputs)
        record = self._records.get(ids.shape)
        if record is None:
            record = self._records[ids.shape] = self._record(inputs)
            return record.loss.clone()
        for held, given in zip(record.inputs, inputs, strict=True):
            held.copy_(given)
        record.graph.replay()
        return record.loss.clone()

    def _step(self, ids: Tensor, at: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(self._device, dtype=torch.bfloat16):
            hidden = self._model(ids)[:, :-1].reshape(-1, self._model.shape.width).index_select(0, at)
            logits = self._model.logits(hidden)
        loss = F.cross_entropy(logits.float(), targets, ignore_index=_IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._adam.step()
        self._muon.step(self._rate)
        self._model.zero_grad(set_to_none=True)
        return loss.detach()

    def _record(self, inputs: Sequence[Tensor]) -> _Record:
        """Takes real steps on the inputs to warm up what a recording must not do, then records one and runs it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._step(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        held = [given.clone() for given in inputs]
        with torch.cuda.graph(graph, pool=self._pool):
            loss = self._step(*held)
        graph.replay()
        return _Record(graph, held, loss)

    def _moved(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        # From pageable memory the copy would wait for all of the GPU's queued work.
        return tensor.pin_memory().to("cuda", non_blocking=True) if self._device == "cuda" else tensor


class _Record:
    """A recorded step with the memory that it reads and writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, inputs: list[Tensor], loss: Tensor) -> None:
        self.graph = graph
        self.inputs = inputs
        self.loss = loss
