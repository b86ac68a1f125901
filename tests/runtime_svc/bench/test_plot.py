import builtins
from pathlib import Path
from typing import Any

import pytest

from runtime_svc.bench import plot
from tests.runtime_svc.bench.reports import QWEN25_3B, report
from treni.errors import TreniError


def test_a_figure_names_every_contender_that_was_measured_and_is_the_same_twice(tmp_path: Path) -> None:
    both = report()
    both.runs += report(QWEN25_3B).runs
    for name in ("a.svg", "b.svg"):
        plot.draw(both, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for wanted in (
        "treni",
        "transformers-compiled",
        "http://127.0.0.1:1/v1",
        "qwen3-0.6b",
        "qwen2.5-3b",
        "bound",
    ):
        assert wanted in text
    assert "vllm" not in text


def test_a_bitmap(tmp_path: Path) -> None:
    plot.draw(report(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TreniError, match=r"treni-route\[plot\]"):
        plot.figures_library()
