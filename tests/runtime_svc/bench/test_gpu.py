import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime_svc.bench import gpu
from runtime_svc.bench.record import Report
from tests.limits import HANG_S
from tests.runtime_svc.bench.reports import MACHINE, QWEN3_4B, QWEN25_3B, report


def test_runs_are_merged_by_model_in_the_order_of_the_shapes(tmp_path: Path) -> None:
    target, part = tmp_path / "card.json", tmp_path / "part.json"
    for model in (QWEN3_4B, QWEN25_3B):
        report(model).write(part)
        gpu.merge(target, part)
    assert [run.model.name for run in Report.read(target).runs] == ["qwen2.5-3b", "qwen3-4b"]
    again = report(QWEN3_4B)
    again.runs[0].started = "2026-02-02T00:00:00+00:00"
    again.write(part)
    gpu.merge(target, part)
    merged = Report.read(target).runs
    assert [run.model.name for run in merged] == ["qwen2.5-3b", "qwen3-4b"]
    assert merged[1].started == again.runs[0].started
    assert "qwen3-4b" in target.with_suffix(".md").read_text()


def test_a_part_is_cut_at_its_limit_and_failures_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert gpu.run_part(
        [sys.executable, "-c", "import sys; print('lost'); print('kept', file=sys.stderr)"],
        HANG_S,
        "a good part",
    )
    assert not gpu.run_part([sys.executable, "-c", "raise SystemExit(3)"], HANG_S, "a bad part")
    assert not gpu.run_part([sys.executable, "-c", "input()"], HANG_S, "a part without input")
    hang = "import threading; threading.Event().wait()"
    assert not gpu.run_part([sys.executable, "-c", hang], 0.5, "a slow part")
    out, err = capfd.readouterr()
    assert out == ""
    for line in ("kept", "a bad part: ended with status 3", "a slow part: cut at its limit"):
        assert line in err


def test_without_a_card_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime_svc.bench.machine.gpu", lambda: None)
    ended = CliRunner().invoke(gpu.main, ["--out", str(tmp_path / "out")])
    assert ended.exit_code == 1
    assert "expected an NVIDIA GPU" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_parts_are_benched_one_by_one_and_a_broken_one_costs_its_own_figures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    random_directory: Path,
) -> None:
    """With small checkpoints in place of the real ones, on the CPU: all else is as on a card."""
    monkeypatch.setattr("runtime_svc.bench.machine.gpu", lambda: MACHINE.gpu)
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    for shape in gpu.SHAPES:
        shutil.copytree(random_directory, scratch / shape)
    os.truncate(scratch / "qwen2.5-3b" / "model.safetensors", 100)
    quick = ["--backend=numpy", "--prompt-tokens=8", "--decode-context=8", "--decode-tokens=4", "--batch=1"]
    quick += ["--repeats=2", "--cold-repeats=1", "--cold-tokens=3", f"--measure-limit-s={HANG_S}"]
    given = [
        "--scratch",
        str(scratch),
        "--out",
        str(out),
        "--peer=vllm",
        f"--limit-s={3 * HANG_S}",
        "--",
        *quick,
    ]
    ended = CliRunner().invoke(gpu.main, given)
    assert ended.exit_code == 1
    assert "not wholly measured: qwen2.5-3b" in ended.stderr
    (path,) = out.glob("nvidia-h200-*.json")
    runs = {run.model.name: run for run in Report.read(path).runs}
    assert list(runs) == ["qwen3-0.6b", "qwen3-4b"]
    assert [c.state for c in runs["qwen3-4b"].contenders] == ["measured", "absent"]
    assert ended.stdout == path.with_suffix(".md").read_text()
