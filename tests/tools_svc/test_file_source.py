"""Tools out of a Python file: functions as tools, and every way in which a file can be none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools_svc.protocol import ToolsConfig
from tools_svc.registry import Registry, build_registry
from tools_svc.sources import settled
from treni.errors import Code, TreniError
from treni.v1.tools_pb2 import CallToolRequest

FILE = '''
from typing import Annotated, Literal

import pydantic

from tools_svc.functions import tool

SEEN = []


@tool
def shelf(name: Annotated[str, pydantic.Field(description="of the part")], floor: int = 0) -> dict[str, str]:
    """Finds the shelf
    of a part.

    Not for the model.
    """
    if name == "none":
        raise ValueError("no such part")
    return {"shelf": f"{name}{floor}"}


@tool
def double(number: int) -> int:
    """Doubles."""
    return 2 * number


@tool(has_side_effects=True)
def note(text: str, kind: Literal["a", "b"] = "a") -> dict[str, int]:
    """Notes it."""
    if text == "refused":
        raise ValueError("no")
    if text == "broken":
        raise RuntimeError("half done")
    SEEN.append(text)
    return {"notes": len(SEEN)}


again = note
'''


@contextmanager
def registry(folder: Path, text: str = FILE, *others: str) -> Iterator[Registry]:
    path = folder / "tool.py"
    path.write_text(text, encoding="utf-8")
    config = ToolsConfig(ledger_path=folder / "ledger.sqlite", sources=(*others, f"file:{path}"))
    with build_registry(config) as built:
        yield built


def call(tools: Registry, name: str, arguments: object, key: str = "") -> dict[str, object]:
    request = CallToolRequest(name=name, arguments_json=json.dumps(arguments), idempotency_key=key)
    result: dict[str, object] = json.loads(tools.call(request).result_json)
    return result


def test_a_function_is_a_tool_by_its_name_types_and_docstring(tmp_path: Path) -> None:
    with registry(tmp_path) as tools:
        shelf, _, note = tools.specs()
        assert (shelf.name, shelf.description, shelf.has_side_effects) == (
            "shelf",
            "Finds the shelf of a part.",
            False,
        )
        assert json.loads(shelf.parameters_json) == {
            "type": "object",
            "properties": {
                "name": {"description": "of the part", "type": "string"},
                "floor": {"default": 0, "type": "integer"},
            },
            "required": ["name"],
        }
        assert note.has_side_effects
        assert call(tools, "shelf", {"name": "B", "floor": 7}) == {"shelf": "B7"}
        assert call(tools, "double", {"number": 21}) == {"result": 42}


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("shelf", {"name": "none"}, "no such part"),
        ("shelf", {}, "name"),
        ("shelf", {"name": 1}, "string"),
        ("shelf", {"name": "B", "more": 1}, "more"),
        ("note", {"text": "x", "kind": "c"}, "kind"),
    ],
)
def test_what_a_function_does_not_take_is_refused(
    tmp_path: Path, name: str, arguments: object, said: str
) -> None:
    with registry(tmp_path) as tools, pytest.raises(TreniError) as refused:
        call(tools, name, arguments)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert said in str(refused.value)


def test_what_changes_something_is_called_once_for_a_key(tmp_path: Path) -> None:
    with registry(tmp_path) as tools:
        assert call(tools, "note", {"text": "x"}, "r/0") == {"notes": 1}
        assert call(tools, "note", {"text": "x"}, "r/0") == {"notes": 1}
        assert call(tools, "note", {"text": "x"}, "r/1") == {"notes": 2}
        with pytest.raises(TreniError, match="no"):
            call(tools, "note", {"text": "refused"}, "r/2")
        assert call(tools, "note", {"text": "y"}, "r/2") == {"notes": 3}
        with pytest.raises(TreniError) as broke:
            call(tools, "note", {"text": "broken"}, "r/3")
        assert (broke.value.kind, broke.value.definite) == ("tool_failed", False)
        with pytest.raises(TreniError) as unknown:
            call(tools, "note", {"text": "broken"}, "r/3")
        assert (unknown.value.kind, unknown.value.definite) == ("tool_outcome_unknown", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "a function under @tool"),
        ("def broken(:\n", "SyntaxError"),
        ("\n\n1 / 0\n", "ZeroDivisionError: division by zero in line 3"),
        ("import nowhere_at_all\n", "nowhere_at_all"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("from tools_svc.functions import tool\n@tool\ndef f(a: int):\n    return a\n", "docstring"),
        (
            'from tools_svc.functions import tool\n@tool\ndef f(a):\n    """Does."""\n',
            "a type for its parameter a",
        ),
        (
            'from tools_svc.functions import tool\n@tool\ndef f(*a: int):\n    """Does."""\n',
            "name each of its",
        ),
        ('from tools_svc.functions import tool\n@tool\nasync def f():\n    """Does."""\n', "plain function"),
        (
            'from tools_svc.functions import tool\n@tool\ndef f(a: object()):\n    """Does."""\n',
            "tools' file",
        ),
    ],
)
def test_a_file_that_is_none_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TreniError) as refused, registry(tmp_path, text):
        pass
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert said in str(refused.value)


def test_a_name_of_another_source_is_not_taken(tmp_path: Path) -> None:
    text = FILE.replace("def double", "def calculator")
    with pytest.raises(TreniError, match="'calculator'"), registry(tmp_path, text, "builtin"):
        pass


@pytest.mark.parametrize("source", ["file:", "file:nowhere.py", "file:.", "file:notes.txt"])
def test_what_is_no_python_file_is_refused_before_anything_runs(source: str) -> None:
    with pytest.raises(TreniError) as refused:
        settled(source)
    assert refused.value.code is Code.INVALID_ARGUMENT


def test_a_file_means_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert settled("file:tool.py") == f"file:{tmp_path.resolve() / 'tool.py'}"
    assert settled("builtin") == "builtin"
