import ast
import asyncio
import errno
import importlib
import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from matrices.cli.main import main
from tests.places import ROOT
from treni import entry, logs
from treni.errors import Code, TreniError, invalid_argument

OWN = ("runtime_svc", "controller", "tools_svc", "chaos", "matrices", "proto/treni")

APART = "runtime_svc/bench/child.py"
"""Runs under another runtime's interpreter, which need not have click."""


def _sources() -> list[Path]:
    return [
        path
        for folder in OWN
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "v1" not in path.parts and path.relative_to(ROOT).as_posix() != APART
    ]


def test_no_program_has_an_edge_of_its_own() -> None:
    """A command line that is not made by `treni.entry` could end in a traceback."""
    for path in _sources():
        if path.name == "entry.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {"argparse", "optparse", "getopt"} & {name.name for name in node.names}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {
                    ("click", "command"),
                    ("click", "group"),
                    ("click", "IntRange"),
                    ("click", "FloatRange"),
                    ("logging", "basicConfig"),
                }, path


def test_every_program_that_installs_or_serves_has_the_edge() -> None:
    for module in (
        "matrices.cli.main",
        "runtime_svc.__main__",
        "runtime_svc.bench.command",
        "controller.__main__",
        "tools_svc.__main__",
    ):
        assert isinstance(importlib.import_module(module).main, entry.Command | entry.Group), module
    context = click.Context(main)
    for name in main.list_commands(context):
        assert isinstance(main.get_command(context, name), entry.Command | entry.Group), name


@pytest.mark.parametrize("text", ["٣", "1_0", " 3", "3.0", "1e3", "0x3", "9" * 5000, "+", ""])
def test_a_whole_number_is_written_in_digits(text: str) -> None:
    @entry.command()
    @click.option("--count", type=entry.WholeRange(0))
    def counts(count: int) -> None:
        click.echo(count)

    assert CliRunner().invoke(counts, ["--count", "3"]).stdout == "3\n"
    told = CliRunner().invoke(counts, ["--count", text])
    assert (told.exit_code, told.stdout) == (2, "")
    assert "--count" in told.stderr


def ending(error: BaseException) -> tuple[int, str]:
    @entry.command()
    def broken() -> None:
        raise error

    ended = CliRunner().invoke(broken, [])
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.exit_code, ended.stderr


TYPED = invalid_argument("x", expected="a", got="b", todo="c")


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (TYPED, 2, "expected a; got b; c"),
        (TreniError(Code.DATA_LOSS, "x", expected="a", got="b\nb", todo="c"), 1, "expected a; got b b; c"),
        (
            BaseExceptionGroup(
                "g", [asyncio.CancelledError(), ExceptionGroup("h", [OSError(5, "io"), TYPED])]
            ),
            2,
            "got b",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "free disk space"),
        (PermissionError(errno.EACCES, "Permission denied", "some/file"), 2, "some/file"),
        (OSError(errno.EIO, "Input/output error"), 1, "Input/output error"),
        (MemoryError(), 1, "memory"),
        (RecursionError("deep"), 1, "this is a bug"),
        (KeyError("x"), 1, "KeyError: 'x'; this is a bug"),
        (AssertionError(), 1, "this is a bug"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), 1, "this is a bug"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (asyncio.CancelledError(), 1, "this is a bug"),
        (click.UsageError("no"), 2, "Error: no"),
        (SystemExit(3), 3, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_is_raised_has_a_status_and_a_line(error: BaseException, status: int, told: str) -> None:
    code, stderr = ending(error)
    assert code == status
    assert told in stderr


def test_an_error_is_json_where_the_log_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    code, stderr = ending(TYPED)
    (line,) = stderr.splitlines()
    told = json.loads(line)
    assert (code, told["level"], told["kind"]) == (2, "error", "x")
    assert (told["expected"], told["got"], told["todo"]) == ("a", "b", "c")


def test_a_wrong_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "loud")
    code, stderr = ending(SystemExit(0))
    assert code == 2
    assert "TRENI_LOG_LEVEL to be one of debug" in stderr


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command sets for the processes that it starts ends with the test."""
    for name in (logs.LEVEL_VARIABLE, logs.FORMAT_VARIABLE):
        monkeypatch.setenv(name, "")
    assert not os.environ[logs.LEVEL_VARIABLE]
