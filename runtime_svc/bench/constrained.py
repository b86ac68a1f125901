"""What a token that is held to a form costs on the NumPy backend, in processor time.

Run by `OPENBLAS_NUM_THREADS=1 python -m runtime_svc.bench.constrained`. It is the time of the one thread that works, so
that who else uses the machine shows little; threads of a library would do a part that is not counted.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

import runtime_svc
from runtime_svc.backends.numpy import sampler
from runtime_svc.constraints.compiler import Compiler
from runtime_svc.constraints.grammar import grammars_of
from runtime_svc.engine import Engine
from runtime_svc.ops import SamplingParams
from runtime_svc.random_checkpoint import byte_tokenizer
from runtime_svc.tokens.tokenizer import Tokenizer
from treni.v1 import common_pb2, inference_pb2

VOCABULARIES = 1024, 151_936
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 60, "maxLength": 60},
        "ports": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": 65535},
            "minItems": 8,
        },
    },
    "required": ["name", "ports"],
}
_REPEATS = 200


def main() -> None:
    """Prints microseconds for each thing that is measured."""
    held = inference_pb2.Constraint(json_schema=json.dumps(SCHEMA))
    engine = Engine.load(Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny", slots=8)
    for name, constraint in (("free", None), ("held", held)):
        click.echo(f"treni-tiny, a {name} token: {_engine_us(engine, constraint):.0f} us")
    for vocabulary in VOCABULARIES:
        logits = np.random.default_rng(0).standard_normal(vocabulary).astype(np.float32)
        allowed = np.full(-(-vocabulary // 32), 0x00FF00FF, np.uint32)
        for temperature in (0.0, 1.0):
            how = SamplingParams(temperature=temperature, top_p=1.0, top_k=0, seed=0)
            free = _median_us(lambda: sampler.sample(logits, how, 3))  # noqa: B023 (called at once)
            all_held = _median_us(lambda: sampler.sample(logits, how, 3, allowed=allowed))  # noqa: B023
            top = _median_us(lambda: sampler.sample(logits, how, 3, top=20))  # noqa: B023
            click.echo(
                f"sampling of {vocabulary:,} at temperature {temperature:g}: {free:.0f} us, held {all_held:.0f} us, "
                f"with 20 alternatives {top:.0f} us"
            )
        compile_us, mask_us, worst_us = _mask_us(vocabulary, held)
        click.echo(
            f"grammar over {vocabulary:,} tokens: {compile_us:.0f} us to compile, a mask {mask_us:.0f} us at the "
            f"median, {worst_us:.0f} us at most"
        )


def _engine_us(engine: Engine, constraint: inference_pb2.Constraint | None) -> float:
    request = inference_pb2.GenerateRequest(
        messages=[common_pb2.Message(role="user", content="Go on.")],
        sampling=common_pb2.Sampling(temperature=1.0, seed=1, max_new_tokens=100),
        constraint=constraint,
    )
    each: list[float] = []
    for seed in range(1, 9):
        request.sampling.seed = seed
        chunks = engine.generate(request)
        next(chunks)
        before_s = time.thread_time()
        *_, last = chunks
        each.append((time.thread_time() - before_s) / max(last.finish.usage.completion_tokens - 1, 1))
    return 1e6 * statistics.median(each)


def _median_us(work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(_REPEATS):
        before_s = time.thread_time()
        work()
        times.append(time.thread_time() - before_s)
    return 1e6 * statistics.median(times)


def _mask_us(vocabulary: int, constraint: inference_pb2.Constraint) -> tuple[float, float, float]:
    """Compiling, the median of the masks of one document that is drawn at random, and the slowest of them."""
    ends = {vocabulary - 1}
    tokenizer = Tokenizer(Path("tokenizer.json"), byte_tokenizer(vocabulary - 9).to_str())
    request = inference_pb2.GenerateRequest(constraint=constraint)
    grammars = grammars_of(request, markers=tokenizer.markers, ends=ends, thinking=False)
    compiler = Compiler(tokenizer, vocabulary=vocabulary, ends=ends)
    compiler.matcher("start: /a/")  # what is made of the vocabulary, once
    before_s = time.thread_time()
    matcher = compiler.matcher(*grammars)
    compile_us = 1e6 * (time.thread_time() - before_s)
    generator, times = np.random.default_rng(1), []
    for _ in range(300):
        before_s = time.thread_time()
        words = matcher.allowed()
        times.append(1e6 * (time.thread_time() - before_s))
        assert words is not None
        allowed = np.flatnonzero(np.unpackbits(words.view(np.uint8), count=vocabulary, bitorder="little"))
        token = int(generator.choice(allowed))
        if token in ends:
            break
        matcher.accept(token)
    return compile_us, statistics.median(times), max(times)


if __name__ == "__main__":
    main()
