import dataclasses
from pathlib import Path

import pytest

from runtime_svc.bench.bounds import kv_bytes, matrix_shapes, model_of, step_bytes, weight_bytes
from runtime_svc.bench.record import Model
from runtime_svc.random_checkpoint import Shape, random_tensors, write_random_checkpoint
from runtime_svc.weights.hugging_face import read_config
from tests.runtime_svc.bench.reports import QWEN3_06B, QWEN3_4B, QWEN25_3B, SETTINGS


@pytest.mark.parametrize(
    ("model", "parameters", "ms_at_4_3_tb_per_s"),
    [
        (QWEN3_06B, 596_049_920, 0.277),
        (QWEN25_3B, 3_085_938_688, 1.435),
        (QWEN3_4B, 4_022_468_096, 1.871),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_published_sizes_and_the_bounds_that_follow(
    model: Model, parameters: int, ms_at_4_3_tb_per_s: float
) -> None:
    # All three tie the head to the embedding, so a token reads every parameter once.
    assert weight_bytes(model, 2) == 2 * parameters
    assert 1e3 * weight_bytes(model, 2) / 4.3e12 == pytest.approx(ms_at_4_3_tb_per_s, abs=5e-4)


def test_the_context_adds_its_keys_and_values() -> None:
    assert kv_bytes(QWEN3_06B, 1, 2) == 2 * 28 * 8 * 128 * 2
    assert kv_bytes(QWEN3_06B, 256, 4) == 512 * kv_bytes(QWEN3_06B, 1, 2)
    # Steps at contexts 128, 129, 130 read 129 on average, for each of eight sequences.
    found = step_bytes(QWEN3_06B, SETTINGS, 8, 3)
    assert found == weight_bytes(QWEN3_06B, 2) + 8 * kv_bytes(QWEN3_06B, 129, 2)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_sizes_agree_with_a_checkpoints_tensors(tmp_path: Path, family: str, tied: bool) -> None:
    shape = Shape(model_type=family, tied=tied)
    model = model_of("small", read_config(write_random_checkpoint(tmp_path, shape)))
    tensors = random_tensors(shape, 0)
    assert model.parameters == sum(tensor.size for tensor in tensors.values())
    matrices = [t for name, t in tensors.items() if t.ndim == 2 and (tied or "embed" not in name)]
    assert sum(rows * columns for rows, columns in matrix_shapes(model)) == sum(t.size for t in matrices)


def test_an_untied_table_is_not_read() -> None:
    untied = dataclasses.replace(QWEN3_06B, tied=False)
    assert weight_bytes(untied, 2) == weight_bytes(QWEN3_06B, 2)
