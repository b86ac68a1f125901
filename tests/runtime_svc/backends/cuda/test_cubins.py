"""Every kernel file compiles for the GPU without one, spills nothing, and is found in the cache."""

import ctypes
from pathlib import Path
from typing import NoReturn

import pytest

import runtime_svc
from runtime_svc.backends.cuda import cubins, libraries
from runtime_svc.backends.cuda.decode_layout import DecodeShape
from runtime_svc.backends.cuda.prefill_bench import MODELS
from runtime_svc.weights.hugging_face import read_config
from treni.errors import TreniError

BUNDLED = Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny"
SHAPES = {**MODELS, "treni-tiny": read_config(BUNDLED)}
FILES = sorted(path.stem for path in cubins.KERNELS.glob("*.cu"))
ALWAYS = ("treni-tiny", max(MODELS, key=lambda name: MODELS[name].hidden))
"""The shapes that are compiled for in `make test`; `make soak` compiles for all."""
COMPILED = [pytest.param(name, {}, id=name) for name in FILES if name != "decode"] + [
    pytest.param(
        "decode",
        {**DecodeShape.of(config).defines, "SINGLE": single},
        id=f"decode-{name}-{single}",
        marks=() if name in ALWAYS else pytest.mark.soak,
    )
    for name, config in SHAPES.items()
    for single in (0, 1)
]
"""Every file, and the one that is compiled for a model's shape for each of these, for one row and for several."""


@pytest.mark.parametrize(("name", "defines"), COMPILED)
def test_every_kernel_keeps_its_values_in_registers(name: str, defines: dict[str, int]) -> None:
    cubin = cubins.compiled(name, defines)
    assert cubin.code[:4] == b"\x7fELF"
    assert cubin.usage
    for kernel, usage in cubin.usage.items():
        assert (usage.spill_bytes, usage.stack_bytes) == (0, 0), kernel
        assert 0 < usage.registers <= 255


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel of its own in a folder of its own, and an empty cache."""
    monkeypatch.setattr(cubins, "KERNELS", tmp_path / "kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "twice.cu").write_text(
        '#include "factor.cuh"\nextern "C" __global__ void twice(float* x) { x[threadIdx.x] *= FACTOR; }\n'
    )
    (tmp_path / "kernels" / "factor.cuh").write_text("#define FACTOR 2\n")
    return tmp_path / "kernels"


def test_the_cache_answers_until_something_changes(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cubins.cached("twice")
    written = first.stat().st_mtime_ns
    assert cubins.cached("twice") == first
    assert first.stat().st_mtime_ns == written
    found = {first}
    for name in ("twice.cu", "factor.cuh"):
        path = kernels / name
        path.write_text(path.read_text() + "// changed\n")
        found.add(cubins.cached("twice"))
    found.add(cubins.cached("twice", {"LAYERS": 3}))
    monkeypatch.setattr(cubins, "ARCHITECTURE", "sm_90")
    found.add(cubins.cached("twice"))
    assert len(found) == 5
    assert all(path.read_bytes()[:4] == b"\x7fELF" for path in found)
    assert {path.name for path in first.parent.iterdir()} == {path.name for path in found}


def test_a_kernel_that_does_not_compile(kernels: Path) -> None:
    (kernels / "factor.cuh").write_text("#define FACTOR nothing\n")
    with pytest.raises(TreniError, match="nothing") as raised:
        cubins.cached("twice")
    assert raised.value.kind == "kernel_broken"


def test_a_kernel_that_spills_is_seen(kernels: Path) -> None:
    (kernels / "twice.cu").write_text(
        'extern "C" __global__ void twice(float* x, int n) {\n'
        "  float kept[64];\n#pragma unroll 1\n  for (int i = 0; i < 64; i++) kept[i] = x[i * n];\n"
        "  x[0] = kept[n];\n}\n"
    )
    assert cubins.compiled("twice").usage["twice"].stack_bytes >= 256


def test_without_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_folders", lambda: iter(()))
    monkeypatch.setattr(ctypes, "CDLL", _not_found)
    with pytest.raises(TreniError) as raised:
        cubins.cached("twice")
    assert raised.value.kind == "backend_unavailable"


def _not_found(name: str, *_: object) -> NoReturn:
    raise OSError(f"{name}: cannot open shared object file")
