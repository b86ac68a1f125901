import pytest

from runtime_svc.bench import measure
from runtime_svc.random_checkpoint import Shape


def test_figures_agree_with_each_other(random_directory):
    speed = measure(random_directory, prompt_tokens=50, decode_tokens=20, repeats=3)
    shape = Shape()
    assert speed.model == "small"
    per_layer = 32 * 64 + 32 * 32 + 32 * 2 * shape.ffn + shape.ffn * 32
    assert speed.weight_bytes == 4 * (2 * per_layer + 32 * shape.vocabulary)
    assert speed.tokens_per_s == pytest.approx(1000 / speed.decode_ms_per_token)
    assert speed.read_share == speed.read_floor_ms / speed.decode_ms_per_token
    # A step contains the bare products, and a prefill of fifty tokens more than one step's worth of them.
    assert 0 < speed.product_floor_ms < speed.decode_ms_per_token
    assert speed.prefill_ms > speed.product_floor_ms
