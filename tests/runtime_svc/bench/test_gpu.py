import sys

from runtime_svc.bench import gpu
from runtime_svc.bench.record import Report
from tests.runtime_svc.bench.reports import QWEN3_4B, QWEN25_3B, report


def test_runs_are_merged_by_model_in_the_order_of_the_shapes(tmp_path):
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


def test_a_part_is_cut_at_its_limit_and_failures_are_told(capfd):
    assert gpu.run_part(
        [sys.executable, "-c", "import sys; print('lost'); print('kept', file=sys.stderr)"], 30, "a good part"
    )
    assert not gpu.run_part([sys.executable, "-c", "raise SystemExit(3)"], 30, "a bad part")
    assert not gpu.run_part([sys.executable, "-c", "input()"], 30, "a part without input")
    hang = "import threading; threading.Event().wait()"
    assert not gpu.run_part([sys.executable, "-c", hang], 0.5, "a slow part")
    out, err = capfd.readouterr()
    assert out == ""
    for line in ("kept", "a bad part: ended with status 3", "a slow part: cut at its limit"):
        assert line in err


def test_without_a_card_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runtime_svc.bench.machine.gpu", lambda: None)
    assert gpu.main(["--out", str(tmp_path / "out")]) == 1
    assert "expected an NVIDIA GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
