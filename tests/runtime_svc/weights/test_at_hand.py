"""What `treni-route models` lists: the bundled model, and whatever installed packages carry."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from matrices.cli.main import main
from runtime_svc.random_checkpoint import Shape
from runtime_svc.weights.at_hand import models_at_hand
from tests.runtime_svc.gguf_files import write_gguf


@pytest.fixture
def carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a GGUF file, and one whose file is damaged."""
    folder = tmp_path / "site"
    for name, content in (("carrier", None), ("broken", b"GGUF" + bytes(40))):
        (folder / name).mkdir(parents=True)
        info = folder / f"{name}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "RECORD").write_text(
            f"{name}/weights.gguf,,\n{name}/gone.gguf,,\n{name}-2.0.dist-info/METADATA,,\n"
        )
        if content is None:
            write_gguf(folder / name / "weights.gguf", Shape(model_type="llama", hidden=64, head_dim=16))
        else:
            (folder / name / "weights.gguf").write_bytes(content)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_what_packages_carry_is_found(carrier: Path) -> None:
    found = {(model.path.name, model.origin): model for model in models_at_hand()}
    tiny = found["treni-tiny", "bundled"]
    assert (tiny.architecture, tiny.stored_dtype) == ("Qwen3ForCausalLM", "bfloat16")
    carried = found["weights.gguf", "package carrier 2.0"]
    assert (carried.architecture, carried.context_length) == ("LlamaForCausalLM", 1024)
    assert carried.path == carrier / "carrier" / "weights.gguf"
    assert carried.size_bytes == carried.path.stat().st_size
    broken = found["weights.gguf", "package broken 2.0"]
    assert broken.architecture is None
    assert broken.problem is not None
    assert "version 0x0" in broken.problem


def test_the_command_says_it_to_people_and_to_scripts(carrier: Path) -> None:
    text = CliRunner().invoke(main, ["models"])
    assert text.exit_code == 0
    assert f"--model {carrier / 'carrier' / 'weights.gguf'}\n" in text.stdout
    assert "treni-tiny\n  Qwen3ForCausalLM, 4.2 M parameters stored as bfloat16, context 2,048" in text.stdout
    assert "package broken 2.0; cannot be loaded: " in text.stdout
    assert "LlamaForCausalLM" in text.stdout
    told = json.loads(CliRunner().invoke(main, ["models", "--format", "json"]).stdout)
    assert str(carrier / "carrier" / "weights.gguf") in [model["path"] for model in told["models"]]
    assert {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"} <= set(told["architectures"])
