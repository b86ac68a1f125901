import codecs
from pathlib import Path

import pytest

from treni import text_files
from treni.errors import Code, TreniError

INSIDE = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""What `str.splitlines` ends a line at and a text file does not."""


def refused(data: bytes) -> str:
    with pytest.raises(TreniError) as caught:
        list(text_files.json_lines(data, "some.jsonl"))
    assert caught.value.code is Code.INVALID_ARGUMENT
    return str(caught.value)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_end_with_lf_or_crlf_and_nowhere_else(mark: bytes, end: bytes, last: bool) -> None:
    data = mark + end.join([f'"a{INSIDE[:3]}"'.encode(), b"", b'{"b":2}']) + (end if last else b"")
    assert list(text_files.json_lines(data, "x")) == [(1, f"a{INSIDE[:3]}"), (3, {"b": 2})]


def test_a_line_holds_whatever_else_unicode_ends_lines_with() -> None:
    assert text_files.lines(f"a{INSIDE}b\r\nc\n") == [f"a{INSIDE}b", "c"]
    assert text_files.lines("") == []
    assert text_files.lines("\n\n") == ["", ""]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ('{"a":1}\n"\u00e9"\n'.encode("latin-1"), ("line 2", "0xe9", "UTF-8")),
        ('{"a":1}\n'.encode("utf-16"), ("line 1", "UTF-16")),
        (b'{"a":1}\n{"b":2}{"c":3}\n', ("line 2", "Extra data")),
        (b'{"a":1}\r{"b":2}\r', ("line 1", "Extra data")),
        (b'1\n2\n{"a":1,"a":2}\n', ("line 3", "'a' twice")),
        (b'{"a":1e999}\n', ("line 1", "1e999")),
        (b'{"a":-Infinity}', ("line 1", "-Infinity")),
        (b"NaN", ("line 1", "NaN")),
        (b'"\\ud800"', ("line 1", "surrogate")),
        (b'{"\\udc00":1}', ("line 1", "surrogate")),
        (b"[" * 100_000, ("line 1", "too deep")),
        (b"9" * 10_000, ("line 1", "limit")),
        (b'"' + codecs.BOM_UTF8 + b'"\n' + codecs.BOM_UTF8 + b"1", ("line 2",)),
        (b"\x00", ("line 1",)),
    ],
)
def test_anything_else_is_refused_by_file_and_line(data: bytes, names: tuple[str, ...]) -> None:
    message = refused(data)
    assert "some.jsonl" in message
    for name in names:
        assert name in message


def test_what_cannot_be_read_is_refused_by_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, tmp_path / ("x" * 300), tmp_path / "a" / "b"):
        with pytest.raises(TreniError, match="a note that can be read") as caught:
            text_files.read_text(path, what="a note")
        assert caught.value.code is Code.INVALID_ARGUMENT
