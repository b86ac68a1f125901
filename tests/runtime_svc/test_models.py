"""The architectures that are known, and one that a package adds."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runtime_svc.engine import Engine
from runtime_svc.models import ARCHITECTURES, of_type
from runtime_svc.models.architecture import Architecture
from runtime_svc.random_checkpoint import Shape, config_of, random_tensors, write_random_checkpoint
from runtime_svc.safetensor import write_file
from runtime_svc.weights.opening import open_checkpoint
from tests.runtime_svc.requests import generate_request
from treni.errors import TreniError

MODULE = '''
from dataclasses import replace

from runtime_svc.models.architecture import Architecture, Blocks
from runtime_svc.models.dense import dense_config, dense_tensors
from runtime_svc.models.state import KEYS_AND_VALUES


def renamed(spec):
    return None if spec is None else replace(spec, name=spec.name.replace("self_attn", "mixer"))


def tensors(config):
    """Those of a dense decoder, with attention under a name of its own."""
    dense = dense_tensors(config)
    blocks = tuple(
        replace(block, **{role: renamed(getattr(block, role)) for role in block.__dataclass_fields__})
        for block in dense.blocks
    )
    return replace(dense, blocks=blocks)


MIXED = Architecture(
    name="MixedForCausalLM",
    model_type="mixed",
    config=dense_config,
    tensors=tensors,
    state=KEYS_AND_VALUES,
    blocks=Blocks(qkv_bias=True, qk_norm=True),
)
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """An installed package that adds an architecture, and what else its entry points say."""

    def install(points: Mapping[str, str], module: str = MODULE) -> None:
        folder = tmp_path / "site"
        (folder / "mixed-1.0.dist-info").mkdir(parents=True)
        (folder / "mixed_for_test.py").write_text(module)
        (folder / "mixed-1.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: mixed\nVersion: 1.0\n"
        )
        lines = [f"[{ARCHITECTURES.group}]", *(f"{name} = {value}" for name, value in points.items())]
        (folder / "mixed-1.0.dist-info" / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, "mixed_for_test", raising=False)

    return install


def test_each_is_found_by_its_name_and_its_type() -> None:
    for name, architecture in ARCHITECTURES.items():
        assert architecture.name == name
        assert of_type(architecture.model_type) is architecture
    assert {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"} <= set(ARCHITECTURES)
    assert "GPT2LMHeadModel" not in ARCHITECTURES
    assert of_type("gpt2") is None


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_tensors_are_named_once_and_made_by_them(model_type: str, tied: bool) -> None:
    shape = Shape(model_type=model_type, tied=tied)
    tensors = config_of(shape).tensors
    names = [spec.name for spec in tensors]
    assert len(names) == len(set(names))
    made = random_tensors(shape, 0)
    assert {spec.name: spec.shape for spec in tensors} == {name: made[name].shape for name in made}
    assert tensors.parameters == sum(values.size for values in made.values())
    has = {
        kind: any(f"q_{kind}" in name or f"q_proj.{kind}" in name for name in names)
        for kind in ("bias", "norm")
    }
    assert has == {"bias": model_type == "qwen2", "norm": model_type == "qwen3"}


def test_a_package_adds_one(package: Callable[[Mapping[str, str]], None], tmp_path: Path) -> None:
    package({"MixedForCausalLM": "mixed_for_test:MIXED"})
    assert isinstance(ARCHITECTURES["MixedForCausalLM"], Architecture)
    directory = write_random_checkpoint(tmp_path / "made", Shape(model_type="mixed"))
    assert json.loads((directory / "config.json").read_text())["architectures"] == ["MixedForCausalLM"]
    opened = open_checkpoint(directory)
    assert "model.layers.0.mixer.q_proj.bias" in opened.tensors
    assert "model.layers.0.mixer.k_norm.weight" in opened.tensors
    *_, last = Engine.load(directory).generate(generate_request("Hi", max_new_tokens=3))
    assert last.finish.usage.completion_tokens in (1, 2, 3)
    tensors = {name: tensor.widened() for name, tensor in opened.tensors.items()}
    tensors["model.layers.0.self_attn.q_proj.bias"] = tensors.pop("model.layers.0.mixer.q_proj.bias")
    write_file(directory / "model.safetensors", tensors, "bfloat16")
    with pytest.raises(TreniError, match=r"mixer\.q_proj\.bias"):
        Engine.load(directory)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("mixed_for_test:missing", "AttributeError"),
        ("nowhere_at_all:MIXED", "ModuleNotFoundError"),
        ("mixed_for_test:renamed", "function"),
    ],
)
def test_a_package_that_is_broken_is_named(
    package: Callable[[Mapping[str, str]], None], tmp_path: Path, value: str, words: str
) -> None:
    package({"MixedForCausalLM": value})
    directory = write_random_checkpoint(tmp_path / "made", Shape())
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "architectures": ["MixedForCausalLM"]}))
    with pytest.raises(TreniError, match=words) as caught:
        Engine.load(directory)
    assert caught.value.kind == "plugin_unusable"
    assert "mixed" in str(caught.value)


def test_a_broken_package_is_not_in_the_way_of_what_is_ours(
    package: Callable[[Mapping[str, str]], None], random_directory: Path
) -> None:
    package({"MixedForCausalLM": "nowhere_at_all:MIXED"})
    Engine.load(random_directory)
    assert "MixedForCausalLM" in list(ARCHITECTURES)


def test_nobody_takes_the_name_of_one_of_ours(
    package: Callable[[Mapping[str, str]], None], random_directory: Path
) -> None:
    package({"Qwen3ForCausalLM": "mixed_for_test:MIXED"})
    with pytest.raises(TreniError) as caught:
        Engine.load(random_directory)
    assert caught.value.kind == "plugin_unusable"
    assert "mixed" in str(caught.value)
