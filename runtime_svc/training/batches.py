"""Batches of dialogues of like length, made by processes beside the training step."""

from __future__ import annotations

import multiprocessing
import queue as queue_module
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from runtime_svc.training.conversations import conversation
from runtime_svc.training.corpus import Encoder

CHUNK = 2048
"""Conversations that are sorted by length together."""
PASSES = 4
"""How often a conversation is read at most: where the GPU outruns the cores, some are read again."""
_RECENT = 24
"""Chunks among which one is drawn to be read again."""
LENGTHS = (128, 192, 256, 320, 384, 448, 512, 576, 640, 768, 1024)
"""Tokens in a row, padding included."""
_PATIENCE_S = 120

Batch = tuple[np.ndarray, np.ndarray]
"""(B, T) uint16 ids, padded with token 0, and (B, T) bool mask of the assistant's tokens."""


def pad(rows: list[Batch], *, length: int, count: int) -> Batch:
    """Rows of ids and masks as one batch of (count, length), what is missing padded with token 0."""
    ids = np.zeros((count, length), dtype=np.uint16)
    mask = np.zeros((count, length), dtype=bool)
    for at, (row, learnt) in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = learnt
    return ids, mask


def chunk(encoder: Encoder, seed: int, number: int, tokens: int) -> list[Batch]:
    """Chunk `number` of the training data: batches of `tokens` tokens, padding included, in random order.

    Each has one of LENGTHS and as many rows as fit: a step can be recorded once for each shape. Conversations longer
    than all of them, one in some thousands, are left out.
    """
    rows = [encoder.encode(conversation(seed, i)) for i in range(number * CHUNK, (number + 1) * CHUNK)]
    rows = sorted((row for row in rows if len(row[0]) <= LENGTHS[-1]), key=lambda row: -len(row[0]))
    batches: list[Batch] = []
    at = 0
    while at < len(rows):
        length = next(length for length in LENGTHS if length >= len(rows[at][0]))
        count = max(1, tokens // length)
        batches.append(pad(rows[at : at + count], length=length, count=count))
        at += count
    random.Random(f"{seed}/{number}").shuffle(batches)
    return batches


def _work(
    tokenizer: str, seed: int, tokens: int, worker: int, workers: int, out: multiprocessing.Queue[list[Batch]]
) -> None:
    encoder = Encoder(Tokenizer.from_file(tokenizer))
    number = worker
    while True:
        out.put(chunk(encoder, seed, number, tokens))
        number += workers


def stream(tokenizer: Path, *, seed: int, tokens: int, workers: int) -> Iterator[tuple[bool, Batch]]:
    """Endless training batches, each with whether it is new.

    New chunks come in an order that does not depend on the number of workers. While the next one is not ready, a recent
    one is read again, up to PASSES times. Ends its worker processes when it is closed. Raises `queue.Empty` when a
    worker is stuck or gone.
    """
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=2) for _ in range(workers)]
    processes = [
        context.Process(target=_work, args=(str(tokenizer), seed, tokens, index, workers, queue), daemon=True)
        for index, queue in enumerate(queues)
    ]
    for process in processes:
        process.start()
    rng = random.Random(f"{seed}/again")
    recent: deque[tuple[int, list[Batch]]] = deque(maxlen=_RECENT)
    number = 0
    try:
        while True:
            again = [at for at, (left, _) in enumerate(recent) if left > 0]
            try:
                new = queues[number % workers].get(block=not again, timeout=_PATIENCE_S)
            except queue_module.Empty:
                if not again:
                    raise
                at = rng.choice(again)
                left, batches = recent[at]
                recent[at] = (left - 1, batches)
                rng.shuffle(batches)
                yield from ((False, batch) for batch in batches)
            else:
                recent.append((PASSES - 1, new))
                number += 1
                yield from ((True, batch) for batch in new)
    finally:
        for process in processes:
            process.terminate()
