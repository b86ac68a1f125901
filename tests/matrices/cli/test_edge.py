"""Every command under bad input, as a user meets it: in a process of its own, never a traceback, a status, a line."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from matrices.cli.main import main
from tests.matrices import harness as h
from tests.places import ROOT

EXAMPLE = ROOT / "examples" / "matrix-h200" / "run"

TREAT = re.compile(r"expected .+; got .+; .+|^Usage: .+\n.*\n\nError: .+", re.DOTALL)
"""What a user reads: what was expected, what there was, and what to do, or how the command is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_after(statement: str, *arguments: str, **options: Any) -> Ended:
    """`treni-route ARGUMENTS` in a process that does what the statement says first."""
    return _ended(h.after(statement, "-m", "matrices", *arguments), options)


def run(*arguments: str | bytes, **options: Any) -> Ended:
    """`treni-route ARGUMENTS`, in this process where that shows the same, else in one of its own."""
    handed_on = arguments[:1] == ("serve",) or arguments[:2] in (("bench", "runtime"), ("bench", "front"))
    if options or handed_on or any(isinstance(argument, bytes) for argument in arguments):
        return _ended([sys.executable, "-m", "matrices", *arguments], options)
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="treni-route")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return _checked(Ended(returncode=result.exit_code, stdout=result.stdout, stderr=result.stderr))


def _ended(command: Sequence[str | bytes], options: Mapping[str, Any]) -> Ended:
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": h.WAIT_S} | dict(options)
    ended = subprocess.run(command, text=True, errors="replace", check=False, **settings)
    return _checked(Ended(returncode=ended.returncode, stdout=ended.stdout or "", stderr=ended.stderr or ""))


def _checked(ended: Ended) -> Ended:
    for word in ("Traceback", "Exception ignored", "this is a bug"):
        assert word not in ended.stderr
    return ended


def refused(*arguments: str | bytes, status: int = 2, **options: Any) -> str:
    """What stderr says when the command refuses."""
    ended = run(*arguments, **options)
    assert (ended.returncode, ended.stdout) == (status, ""), ended.stderr
    assert TREAT.search(ended.stderr), ended.stderr
    return ended.stderr


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A path under which nobody can write, not even root: a file stands where a folder should."""
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    return file / "out"


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))


COMMANDS = sorted(_commands(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_under_both_names(path: tuple[str, ...], flag: str) -> None:
    ended = run(*path, flag)
    assert ended.returncode == 0, ended.stderr
    assert f"Usage: {' '.join(('treni-route', *path))} " in ended.stdout


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_refuses_what_it_does_not_know(path: tuple[str, ...]) -> None:
    assert "--nonsense" in refused(*path, "--nonsense")


@pytest.mark.parametrize(
    "arguments",
    [
        ("matrix", "p00", "--runs", "9" * 5000),
        ("matrix", "p00", "--seed", str(2**32)),
        ("matrix", "p00", "--margin", "nan"),
        ("matrix", "p00", "--margin", "1e999"),
        ("matrix", "p00", "--concurrency", "-1"),
        ("matrix", "p00", "--set", "policy.retries=" + "9" * 5000),
        ("matrix", "p00", "--set", "policy.run_timeout=1e999"),
        ("matrix", "p00", "--set", "policy.backoff_multiplier=" + "9" * 400),
        ("matrix", "p00..p99"),
        ("matrix", ""),
        ("matrix", ",".join(["p00"] * 3) + ","),
        ("matrix", "p00", "--suite", ""),
        ("matrix", "p00", "--suite", "x" * 5000 + ".jsonl"),
        ("matrix", "x" * 5000 + ".toml"),
        ("matrix", "p00", "--model", "/nonexistent"),
        ("matrix", "p00", "--model", "/dev/null"),
        ("matrix", "p00", "--backend", "cuda"),
        ("matrix", "p00", "--toxiproxy", "::1"),
        ("matrix", "p00", "--toxiproxy", "127.0.0.1:99999"),
        ("matrix", "p00", "--toxiproxy", "8474"),
        ("matrix", "--resume", "/nonexistent"),
        ("matrix", "--resume", "/dev/null"),
        ("matrix", "--resume", "x" * 5000),
        ("matrix", "p00", "--resume", str(EXAMPLE)),
        ("matrix", "--resume", str(EXAMPLE), "--runs", "3"),
        ("matrix", "--resume", str(EXAMPLE), "--out", "results"),
        ("matrix", "--resume", str(EXAMPLE), "--no-idempotency"),
        ("matrix", "p00", "--dry-run", "--log-level", "loud"),
        ("check", "/nonexistent"),
        ("check", "/dev/null"),
        ("check", "x" * 5000),
        ("report", "/nonexistent"),
        ("compare", "/nonexistent", str(EXAMPLE)),
        ("compare", str(EXAMPLE), str(EXAMPLE), "--near-tie", "nan"),
        ("gate", str(EXAMPLE)),
        ("gate", str(EXAMPLE), str(EXAMPLE), "--max-ratio", "1.3"),
        ("gate", str(EXAMPLE), str(EXAMPLE), "--margin", "nan"),
        ("gate", str(EXAMPLE), str(EXAMPLE), "--junit", "/nonexistent/a.xml"),
        ("package", "/nonexistent", "--out", "x"),
        ("package", str(EXAMPLE), str(EXAMPLE), "--out", "x"),
        ("profiles", "--show", "p99"),
        ("profiles", "--show", "p00", "--validate"),
        ("profiles", "--validate", "/nonexistent.toml"),
        ("profiles", "--validate", "/nonexistent.jsonl"),
        ("profiles", "--validate", "/dev/null"),
        ("profiles", "p00"),
        ("schema",),
        ("schema", "nonsense"),
        ("simulate", "--levels", "1e999"),
        ("simulate", "--runs", "1"),
        ("simulate", "--families", "none"),
        ("simulate", "--profiles", "p99"),
        ("bench", "routing", "--requests", "1"),
        ("bench", "routing", "--model", "/nonexistent"),
        ("bench", "scale", "--rounds", "0"),
        ("bench", "scale", "--model", "/nonexistent"),
        ("bench", "front", "--rounds", "0"),
        ("bench", "front", "--model", "/nonexistent"),
        ("bench", "runtime", "--repeats", "9" * 5000),
        ("bench", "runtime", "--threads", "0"),
        ("bench", "runtime", "--measure-limit-s", "nan"),
        ("bench", "runtime", "--peer", "http://[::1"),
        ("bench", "runtime", "--show", "/nonexistent"),
        ("bench", "runtime", "--json", "/nonexistent/a.json"),
        ("bench", "runtime", "--plot", "/nonexistent/a.svg"),
        ("bench", "runtime", "--plot", "a.txt"),
        ("serve", "nonsense"),
        ("serve", "runtime", "--model", "x", "--port", "99999"),
        ("serve", "runtime", "--model", "x", "--port", "-1"),
        ("serve", "runtime", "--model", "x", "--port", "9" * 5000),
        ("serve", "tools", "--ledger", "x", "--port", "99999"),
        ("serve", "controller", "--model-address", "a:1", "--tools-address", "a:1", "--port", "99999"),
        ("make-checkpoint", "--shape", "nonsense", "/tmp/x"),
        ("make-checkpoint", "--shape", "tiny-random", "/dev/null/x"),
        ("--log-format", "xml", "doctor"),
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_wrong_use_ends_with_2_and_a_line_before_anything_runs(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    with contextlib.chdir(tmp_path):
        refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("bench", "runtime"), ("serve", "runtime")], ids=" ".join)
def test_a_model_that_is_not_there_is_told_by_path(command: tuple[str, ...]) -> None:
    assert "a GGUF file at /nonexistent" in refused(*command, "--model", "/nonexistent", status=1)


def _here() -> str:
    return f"{ROOT}{os.pathsep}{ROOT / 'proto'}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("matrix", "p00", "--out"),
        ("schema", "--out"),
        ("make-checkpoint", "--shape", "tiny-random"),
        ("bench", "runtime", "--json"),
        ("serve", "tools", "--ledger"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_place_where_nothing_can_be_written_is_told_at_once(
    arguments: tuple[str, ...], unwritable: Path
) -> None:
    ended = run(*arguments, str(unwritable))
    assert ended.returncode in (1, 2), ended.stderr
    assert ended.stdout == ""
    assert TREAT.search(ended.stderr)
    assert str(unwritable.parent) in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "tools", "--ledger", "{tmp}/l", "--port", "{port}"),
        (
            "serve",
            "controller",
            "--model-address",
            "127.0.0.1:1",
            "--tools-address",
            "127.0.0.1:1",
            "--port",
            "{port}",
        ),
        ("serve", "runtime", "--model", "{model}", "--port", "{port}"),
    ],
    ids=lambda arguments: arguments[1],
)
def test_a_busy_port_is_told(arguments: tuple[str, ...], tmp_path: Path) -> None:
    from matrices.command_line import bundled_checkpoint

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        told = [part.format(tmp=tmp_path, port=port, model=bundled_checkpoint()) for part in arguments]
        assert port in refused(*told, status=1)


@pytest.mark.parametrize(
    "arguments",
    [
        (b"matrix", b"\xff.toml"),
        (b"check", b"\xe9"),
        (b"matrix", b"p00", b"--suite", b"\xff.jsonl"),
        (b"\xff",),
    ],
    ids=repr,
)
def test_arguments_that_are_no_text_are_refused(arguments: tuple[bytes, ...]) -> None:
    assert "UTF-8" in refused(*arguments)


PRINTING = [
    ("profiles",),
    ("networks",),
    ("profiles", "--show", "p03"),
    ("schema", "profile"),
    ("matrix", "p00", "--dry-run"),
    ("compare", str(EXAMPLE), str(EXAMPLE)),
    ("gate", str(EXAMPLE), str(EXAMPLE)),
    ("doctor",),
    ("cluster", "init", "--provider", "local", "--head-ip", "one", "--worker-ip", "two"),
    ("--help",),
    ("serve", "runtime", "--help"),
    ("bench", "runtime", "--help"),
]


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_stdout_is_an_error_and_not_silence(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = run(*arguments, stdout=full)
    assert ended.returncode == 1
    assert "expected stdout to take the result; got No space left on device" in ended.stderr


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    ended = run(*arguments, stdout=write)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("arguments", PRINTING[:-2], ids=" ".join)
def test_a_closed_stdout_is_refused(arguments: tuple[str, ...]) -> None:
    ended = run_after("os.close(1)", *arguments, stdout=None)
    assert ended.returncode == 2
    assert "got a closed one" in ended.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("arguments", PRINTING[1::2], ids=" ".join)
def test_a_stdout_that_cannot_write_a_character_costs_no_result(
    arguments: tuple[str, ...], encoding: str
) -> None:
    ended = run(*arguments, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


def test_a_closed_or_full_stderr_costs_no_result() -> None:
    wanted = run("profiles", "--validate")
    closed = run_after("os.close(2)", "profiles", "--validate", stderr=None)
    with open("/dev/full", "w", encoding="utf-8") as full:
        lost = run("profiles", "--validate", stderr=full)
    assert closed.returncode == lost.returncode == wanted.returncode == 0


def test_a_machine_without_a_home_is_told_what_to_set(tmp_path: Path) -> None:
    """Neither HOME nor an entry in the list of users: what is built once has no place to be kept."""
    without = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    nobody = 54321  # no user of any system
    copy = tmp_path / "readable"
    shutil.copytree(EXAMPLE, copy)
    os.chmod(tmp_path, 0o755)
    script = "import os; from treni.packages import cache_folder; cache_folder()"
    ended = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY.format(uid=nobody, script=script)],
        env=without | {"PYTHONPATH": _here()},
        capture_output=True,
        text=True,
        timeout=h.WAIT_S,
        check=False,
    )
    assert ended.stdout.strip() == "home_unknown", ended.stderr


_AS_NOBODY = """
import pwd
from treni.errors import TreniError
pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid))  # as on a system without the entry
try:
    {script}
except TreniError as error:
    print(error.kind)
"""


def test_too_little_memory_is_named() -> None:
    limit = 900 * 2**20
    ended = run_after(
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))",
        "simulate",
        "--campaigns",
        "2000000000",
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert ended.returncode == 1, ended.stderr
    assert "memory" in ended.stderr
