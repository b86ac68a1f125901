"""Batches of dialogues of like length, made by processes beside the training step; deterministic in their order."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from runtime_svc.training.corpus import Encoder
from runtime_svc.training.generator import generate

BATCHES_A_CHUNK = 16
_PAD_TO = 32
_PATIENCE_S = 120

Batch = tuple[np.ndarray, np.ndarray]
"""(B, T) uint16 ids, padded with token 0, and (B, T) bool mask of the assistant's tokens."""


def pad(rows: list[Batch]) -> Batch:
    """Rows of ids and masks as one batch, T the next multiple of 32."""
    length = -(-max(len(ids) for ids, _ in rows) // _PAD_TO) * _PAD_TO
    ids = np.zeros((len(rows), length), dtype=np.uint16)
    mask = np.zeros((len(rows), length), dtype=bool)
    for at, (row, learnt) in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = learnt
    return ids, mask


def chunk(encoder: Encoder, seed: int, number: int, batch: int) -> list[Batch]:
    """Chunk `number` of the training data: batches sorted by length inside, in random order."""
    size = batch * BATCHES_A_CHUNK
    rows = [encoder.encode(generate(seed, index)) for index in range(number * size, (number + 1) * size)]
    rows.sort(key=lambda row: len(row[0]))
    batches = [pad(rows[at : at + batch]) for at in range(0, size, batch)]
    random.Random(f"{seed}/{number}").shuffle(batches)
    return batches


def _work(
    tokenizer: str, seed: int, batch: int, worker: int, workers: int, out: multiprocessing.Queue
) -> None:  # type: ignore[type-arg]
    encoder = Encoder(Tokenizer.from_file(tokenizer))
    number = worker
    while True:
        out.put(chunk(encoder, seed, number, batch))
        number += workers


def stream(tokenizer: Path, *, seed: int, batch: int, workers: int) -> Iterator[Batch]:
    """Endless training batches; which they are depends on seed and batch, not on the number of workers.

    Ends its worker processes when it is closed. Raises `queue.Empty` when a worker is stuck or gone.
    """
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=2) for _ in range(workers)]
    processes = [
        context.Process(target=_work, args=(str(tokenizer), seed, batch, index, workers, queue), daemon=True)
        for index, queue in enumerate(queues)
    ]
    for process in processes:
        process.start()
    number = 0
    try:
        while True:
            yield from queues[number % workers].get(timeout=_PATIENCE_S)
            number += 1
    finally:
        for process in processes:
            process.terminate()
