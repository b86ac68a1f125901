"""The whole command on a small random model: real child processes, a real server of somebody else's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import runtime_svc
from runtime_svc.bench.record import Report
from tests.limits import HANG_S
from tests.runtime_svc.bench.foreign_server import running

ROOT = Path(runtime_svc.__file__ or next(iter(runtime_svc.__path__))).parents[1]


ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"}


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime_svc.bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=HANG_S, cwd=ROOT)


QUICK = (
    "--prompt-tokens=8,32",
    "--decode-context=8",
    "--decode-tokens=5",
    "--batch=1,2",
    "--repeats=3",
    "--peer-repeats=2",
    "--cold-repeats=2",
    "--cold-tokens=4",
    f"--measure-limit-s={HANG_S}",
    f"--peer-limit-s={HANG_S}",
)


ABSENT = (
    "grpc_health",
    "grpc_reflection",
    "grpc_status",
    "google.rpc",
    "jsonschema",
    "matplotlib",
    "matrices",
    "prometheus_client",
    "psutil",
    "pydantic",
    "rich",
)


@pytest.fixture(scope="module")
def measured(
    random_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A run with a peer that is there and one that is not."""
    path = tmp_path_factory.mktemp("bench") / "out.json"
    with running() as server:
        ended = bench(
            "--model", random_directory, *QUICK, "--peer=vllm", "--peer", server.url, "--json", path
        )
    assert ended.returncode == 0, ended.stderr
    return ended, path


def test_every_figure_is_there_with_every_repeat(
    measured: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    (run,) = Report.read(measured[1]).runs
    ours, absent, peer = run.contenders
    assert (run.model.name, run.model.family, run.settings.backend) == ("small", "qwen3", "numpy")
    assert len(run.floors.product_s) == len(run.floors.read_s) == 3
    assert run.floors.copy_bytes_per_s == []
    assert ours.state == "measured"
    assert [(t.prompt_tokens, len(t.seconds)) for t in ours.ttft] == [(8, 3), (32, 3)]
    assert [(d.batch, d.tokens) for d in ours.decode] == [(1, [5] * 3), (2, [5] * 3)]
    assert all(seconds > 0 for t in ours.ttft for seconds in t.seconds)
    assert len(ours.cold) == 2
    for cold in ours.cold:
        assert cold.tokens == 4
        assert {"interpreter", "import", "weights", "ready", "first token"} <= cold.stages.keys()
        assert sum(cold.stages.values()) == pytest.approx(cold.first_token_s)
    assert (absent.state, absent.decode, absent.cold) == ("absent", [], [])
    assert "vllm" in absent.reason
    assert (peer.state, [len(t.seconds) for t in peer.ttft]) == ("measured", [2, 2])
    assert [(d.batch, len(d.seconds)) for d in peer.decode] == [(1, 2), (2, 2)]


def test_data_is_on_stdout_and_progress_on_stderr(
    measured: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    ended, path = measured
    assert "Decode at batch 1 from a context of 8" in ended.stdout
    assert "vllm: absent: " in ended.stdout
    assert "round 3 of 3" in ended.stderr
    assert "round" not in ended.stdout
    shown = bench("--show", path)
    assert (shown.returncode, shown.stdout) == (0, ended.stdout)
    assert "| treni |" in bench("--show", path, "--format=markdown").stdout


def test_an_interrupt_keeps_what_was_measured_and_leaves_no_process(
    random_directory: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    options = ["--model", str(random_directory), *QUICK, "--repeats=100000", "--json", str(path)]
    with subprocess.Popen(
        [sys.executable, "-m", "runtime_svc.bench", *options],
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("round 3 "):
                break
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    assert len(children) == 1
    assert psutil.wait_procs(children, timeout=HANG_S)[1] == []
    (run,) = Report.read(path).runs
    (ours,) = run.contenders
    assert len(ours.ttft[0].seconds) >= 2
    assert (ours.state, ours.reason) == ("partial", "the session did not get to its end")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--peer", "sglang"], 2, "transformers-compiled, vllm or a URL; got 'sglang'"),
        (["--batch", "0"], 2, "0 is not in the range 1<=x"),
        (["--prompt-tokens", "5000"], 2, "model's context of 1024 tokens; got up to 5000"),
        (["--plot", "out.doc"], 2, "--plot: expected"),
        (["--show", "no-such.json"], 2, "no-such.json"),
        (["--model", "no-such-directory"], 1, "no-such-directory"),
    ],
)
def test_wrong_use_and_errors_have_their_exit_status(
    random_directory: Path, arguments: list[str], status: int, message: str
) -> None:
    given = arguments if "--model" in arguments else ["--model", random_directory, *arguments]
    ended = bench(*given)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert message in ended.stderr


def test_a_backend_that_is_not_there_is_an_error_and_no_other_takes_its_place(
    random_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ended = bench("--model", random_directory, "--backend=cupy", *QUICK)
    assert ended.returncode == 1
    assert "treni-route: expected" in ended.stderr
    assert ended.stdout == ""


def test_the_group_hands_its_options_on() -> None:
    command = [sys.executable, "-m", "matrices", "bench", "runtime", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=HANG_S, cwd=ROOT)
    assert ended.returncode == 0
    assert "--peer-python" in ended.stdout
    assert "Usage: treni-route bench runtime" in ended.stdout


def test_it_runs_where_only_the_engines_own_packages_are(random_directory: Path) -> None:
    """A GPU machine lent for an hour has no gRPC extras, no validator and no table library."""
    script = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None
import runtime_svc.bench.gpu
from runtime_svc.bench.command import main
from runtime_svc.bench.child_treni import Treni, imports
from runtime_svc.bench.child import ChildSettings, Stages
settings = ChildSettings(model={str(random_directory)!r}, backend="numpy", device="cpu", dtype="float32", threads=1,
    capacity=32, decode_capacity=32, slots=1, prompt=[1], tokens=1, spawned_s=0.0, probe=False)
imports(settings)
treni = Treni(settings, Stages(0.0))
treni.prefill([[1, 2, 3]], 4)
assert treni.decode(4, 60.0) == 4
sys.exit(main(["--model", {str(random_directory)!r}, "--format=markdown", *{QUICK!r}]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        timeout=HANG_S,
    )
    assert ended.returncode == 0, ended.stderr
    assert "| treni |" in ended.stdout
