"""Trains treni-tiny from nothing to a Hugging Face style directory. Needs torch; a GPU makes it minutes.

`python -m runtime_svc.training.train --out DIR`. The conversations are a pure function of the seed; how many of them
are read again depends on how fast the machine makes them. The learning rate follows a cosine over the steps; with
--time-limit-s it follows whichever of steps and time runs out first. With --init it goes on from another run's
directory, with that one's tokenizer: give it another seed for other data.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from runtime_svc.training import tokenizer as tokenizing
from runtime_svc.training.batches import pad, stream
from runtime_svc.training.corpus import TEMPLATE, Encoder, text_of
from runtime_svc.training.dialogue import Dialogue
from runtime_svc.training.generator import generate
from runtime_svc.training.model_torch import Decoder, Shape
from runtime_svc.training.steps import Stepper
from treni import entry

STEPS = 53_673
"""The steps that the shipped weights have had in three runs (README.md beside them)."""
TOKENS = 49_152
"""The tokens in a batch, padding included."""
TOKENIZER_DIALOGUES = 12_000
WARMUP_STEPS = 300
WARM_STEPS = 100
"""The pace is counted from here, when everything is compiled."""
EVALUATED = {"values": 2000, "unseen_tools": 1000, "phrasings": 1000}
EVALUATION_SEED = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a run is asked for; each value is explained by its option's help."""

    out: Path
    init: Path | None
    tokenizer: Path | None
    seed: int
    steps: int
    tokens: int
    learning_rate: float
    time_limit_s: float
    workers: int
    compile: bool
    graphs: bool
    device: str
    tokenizer_dialogues: int
    evaluated: float


_COUNT = entry.WholeRange(1, 2**31 - 1)
_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
_GPU = torch.cuda.is_available()


@entry.command(help=__doc__)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="The checkpoint directory to write.",
)
@click.option("--init", type=_DIRECTORY, metavar="DIR", help="A directory that an earlier run wrote.")
@click.option(
    "--tokenizer",
    type=_DIRECTORY,
    metavar="DIR",
    help="A directory whose tokenizer.json to take instead of a new one.",
)
@click.option(
    "--seed", type=entry.WholeRange(0, 2**32 - 1), default=1, show_default=True, help="Of all draws."
)
@click.option("--steps", type=_COUNT, default=STEPS, show_default=True, help="Of the optimiser.")
@click.option("--tokens", type=_COUNT, default=TOKENS, show_default=True, help="In a batch.")
@click.option(
    "--learning-rate",
    type=entry.FiniteRange(0, 1, min_open=True),
    default=2e-3,
    show_default=True,
    help="At its highest.",
)
@click.option(
    "--time-limit-s",
    type=entry.FiniteRange(0, 1e9, min_open=True),
    help="For the optimisation; default: none.",
)
@click.option(
    "--workers",
    type=_COUNT,
    default=max(1, (os.cpu_count() or 2) - 2),
    show_default=True,
    help="Processes that make conversations.",
)
@click.option(
    "--compile/--no-compile",
    default=_GPU,
    help="torch.compile the blocks: several times faster on a GPU, after half a minute.",
)
@click.option(
    "--graphs/--no-graphs", default=_GPU, help="Record a step for each shape of batch as a CUDA graph."
)
@click.option("--device", default="cuda" if _GPU else "cpu", show_default=True, help="As torch names it.")
@click.option(
    "--tokenizer-dialogues",
    type=_COUNT,
    default=TOKENIZER_DIALOGUES,
    show_default=True,
    help="That a new tokenizer is made from.",
)
@click.option(
    "--evaluated",
    type=entry.FiniteRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of the evaluation to run at the end.",
)
def main(*, time_limit_s: float | None, **given: Any) -> None:
    """Trains with the options of the command line."""
    train(Options(time_limit_s=math.inf if time_limit_s is None else time_limit_s, **given))


def train(options: Options) -> None:
    """Writes the directory, with a log line now and then and the accuracies at the end."""
    started_s = time.monotonic()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    log = Log(out / "training-log.jsonl", started_s)
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    # cuDNN's attention makes a plan for every new shape, and every batch has its own.
    torch.backends.cuda.enable_cudnn_sdp(False)
    shape = Shape()
    model = Decoder(shape)
    if options.init is not None:
        model.restore(load_file(options.init / "model.safetensors"))
    source = options.tokenizer or options.init
    if source is not None:
        tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    else:
        texts = (text_of(generate(options.seed, -1 - i)) for i in range(options.tokenizer_dialogues))
        tokenizer = tokenizing.train(texts)
    tokenizer.save(str(out / "tokenizer.json"))
    model = model.to(options.device)
    log.write(event="start", shape=asdict(shape), parameters=sum(p.numel() for p in model.parameters()),
              seed=options.seed, tokens=options.tokens, learning_rate=options.learning_rate, steps=options.steps,
              device=torch.cuda.get_device_name() if options.device == "cuda" else options.device,
              init=None if options.init is None else options.init.name, torch=torch.__version__)  # fmt: skip
    _optimise(model, tokenizer, options, log, started_s)
    save(model, tokenizer, out)
    _judge(model, tokenizer, log, "evaluation", options.evaluated, options.device)


def _optimise(model: Decoder, tokenizer: Tokenizer, options: Options, log: Log, started_s: float) -> None:
    out = options.out
    stepper = Stepper(model, device=options.device, compiled=options.compile, recorded=options.graphs)
    batches = stream(
        out / "tokenizer.json", seed=options.seed, tokens=options.tokens, workers=options.workers
    )
    losses: list[torch.Tensor] = []
    step, new_rows, rows, began_s = 0, 0, 0, 0.0
    for new, (ids_array, mask_array) in batches:
        now_s = time.monotonic()
        if step == WARM_STEPS:
            began_s = now_s
        spent = (now_s - started_s) / options.time_limit_s if step else 0.0
        progress = max(step / options.steps, spent)
        if progress >= 1.0:
            break
        rate = options.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS)
        rate *= 0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * progress))
        losses.append(stepper.step(ids_array, mask_array, rate))
        step += 1
        rows += len(ids_array)
        new_rows += len(ids_array) if new else 0
        if step % 500 == 0 or step in (10, 50, 100, 200):
            mean = torch.stack(losses).mean().item()
            pace = (step - WARM_STEPS) / (time.monotonic() - began_s) if step > WARM_STEPS else 0.0
            log.write(event="step", step=step, loss=round(mean, 5), rate=rate, steps_a_second=round(pace, 1))
            losses.clear()
        if step % 10_000 == 0:
            save(model, tokenizer, out)
            _judge(model, tokenizer, log, "progress", 0.2 * options.evaluated, options.device)
    batches.close()  # type: ignore[attr-defined]
    log.write(event="trained", step=step, conversations=new_rows, read=rows)


def _judge(model: Decoder, tokenizer: Tokenizer, log: Log, event: str, share: float, device: str) -> None:
    """Logs the accuracies of the weights as they are shipped, rounded to bfloat16."""
    rounded = Decoder(model.shape)
    rounded.restore(model.checkpoint())
    rounded = rounded.to(device)
    for split, count in EVALUATED.items():
        accuracies = evaluate(rounded, tokenizer, split, int(count * share), device)
        log.write(event=event, split=split, seed=EVALUATION_SEED, **accuracies)


def save(model: Decoder, tokenizer: Tokenizer, out: Path) -> None:
    """Everything that a Hugging Face directory has, beside tokenizer.json."""
    end, stop = tokenizer.token_to_id(tokenizing.END), tokenizer.token_to_id(tokenizing.STOP)
    assert end is not None
    assert stop is not None
    save_file(model.checkpoint(), out / "model.safetensors", metadata={"format": "pt"})
    _write(out / "config.json", model.shape.config(end_id=end, stop_id=stop))
    _write(out / "generation_config.json",
           {"do_sample": False, "eos_token_id": [stop, end], "pad_token_id": end, "max_new_tokens": 256})  # fmt: skip
    _write(out / "tokenizer_config.json", tokenizing.tokenizer_config(model.shape.context))
    shutil.copyfile(TEMPLATE, out / "chat_template.jinja")


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@torch.inference_mode()
def evaluate(model: Decoder, tokenizer: Tokenizer, split: str, count: int, device: str) -> dict[str, Any]:
    """Shares of fresh dialogues, and of each family's, of which greedy decoding gets every token right.

    Each token is predicted from the right ones before it: all of a dialogue's predictions are right exactly
    when decoding it freely, greedily, gives it.
    """
    encoder = Encoder(tokenizer)
    dialogues = [generate(EVALUATION_SEED, index, split) for index in range(count)]
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    missed: list[dict[str, str]] = []
    for at in range(0, count, 64):
        part = dialogues[at : at + 64]
        rows = [encoder.encode(d) for d in part]
        ids_array, mask_array = pad(rows, length=max(len(ids) for ids, _ in rows), count=len(rows))
        ids = torch.from_numpy(ids_array.astype("int64")).to(device)
        guessed = model.logits(model(ids)).argmax(-1)[:, :-1].cpu()
        wrong = (guessed != ids[:, 1:].cpu()) & torch.from_numpy(mask_array[:, 1:])
        for row, dialogue in enumerate(part):
            key = f"{dialogue.family}/{dialogue.kind}"
            total[key] += 1
            if not wrong[row].any():
                right[key] += 1
            elif len(missed) < 60:
                missed.append(_miss(tokenizer, dialogue, key, ids_array[row], guessed[row], wrong[row]))
    for miss in missed:
        print(split, json.dumps(miss, ensure_ascii=False), file=sys.stderr)
    families = sorted({key.split("/")[0] for key in total})
    return {
        "dialogues": count,
        "right": sum(right.values()) / max(1, count),
        "families": {
            f: round(sum(v for k, v in right.items() if k.split("/")[0] == f)
                     / sum(v for k, v in total.items() if k.split("/")[0] == f), 4)
            for f in families
        },
        "kinds": {key: [right[key], total[key]] for key in sorted(total) if right[key] < total[key]},
    }  # fmt: skip


def _miss(
    tokenizer: Tokenizer, dialogue: Dialogue, kind: str, ids: np.ndarray, guessed: Tensor, wrong: Tensor
) -> dict[str, str]:
    """What stood before the first wrong token, what was right there, and what was guessed."""
    first = int(wrong.nonzero()[0, 0])

    def text(some: list[int]) -> str:
        return str(tokenizer.decode(some, skip_special_tokens=False))

    return {
        "kind": kind,
        "prompt": dialogue.prompt,
        "before": text(ids[max(0, first - 24) : first + 1].tolist()),
        "right": text(ids[first + 1 : first + 8].tolist()),
        "guess": text([int(guessed[first])]),
    }


class Log:
    """A JSONL file that is written as things happen, echoed on stderr."""

    def __init__(self, path: Path, started_s: float) -> None:
        self._path = path
        self._started_s = started_s
        path.write_text("", encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Appends one line with the seconds since the start."""
        line = json.dumps({"elapsed_s": round(time.monotonic() - self._started_s, 1), **values})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(prog_name="python -m runtime_svc.training.train")
