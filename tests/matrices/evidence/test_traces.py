"""Files of traces as they are read: cut anywhere, not ours, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matrices.evidence.traces import read_traces
from treni import tracing
from treni.errors import TreniError
from treni.trace_options import traced


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of two lines, as a process wrote it."""
    folder = tmp_path_factory.mktemp("traces")
    for _ in range(2):
        with traced("test", path=folder / "kept.jsonl", endpoint=""):
            by = tracing.tracer()
            assert by is not None
            with tracing.Working(by, by.start("outer", {"a": 1, "b": True, "c": 0.5, "d": ["x", "y"]})):
                by.start("inner", {}).end()
    lines = [line for line in (folder / "kept.jsonl").read_bytes().split(b"\n") if line]
    return b"".join(line + b"\n" for line in lines)


def test_what_was_written_is_read(kept: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(kept)
    traces = read_traces(tmp_path)
    assert (len(traces.by_id), traces.torn) == (2, 0)
    for trace in traces.by_id.values():
        assert trace.root is not None
        assert trace.root.attributes == {"a": 1, "b": True, "c": 0.5, "d": ["x", "y"]}
        (inner,) = trace.children[trace.root.id]
        assert (inner.name, inner.service, inner.parent) == ("inner", "test", trace.root.id)
        assert 0 <= inner.duration_s <= trace.root.duration_s


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(share=st.floats(0, 1), goes_on=st.booleans())
def test_a_file_that_was_cut_anywhere_has_the_lines_before(
    kept: bytes, tmp_path: Path, share: float, goes_on: bool
) -> None:
    cut = int(share * len(kept))
    rest = b"\n" + kept if goes_on else b""  # as the next process begins in a file that it takes over
    (tmp_path / "one.jsonl").write_bytes(kept[:cut] + rest)
    traces = read_traces(tmp_path)
    # A line that lacks nothing but its end is whole once another has ended it.
    ended = kept[:cut].endswith(b"\n") or cut == 0 or (goes_on and kept[cut : cut + 1] == b"\n")
    assert len(traces.by_id) == (2 if goes_on else kept[:cut].count(b"\n"))
    assert traces.torn == (not ended)


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"7", b"nothing", json.dumps({"resourceSpans": [{}]}).encode()]
)
def test_what_is_no_trace_is_told_with_its_line(kept: bytes, tmp_path: Path, line: bytes) -> None:
    (tmp_path / "one.jsonl").write_bytes(kept + line + b"\n" + kept)
    with pytest.raises(TreniError) as caught:
        read_traces(tmp_path)
    assert caught.value.kind == "trace_malformed"
    assert "line 3" in caught.value.expected


def test_a_folder_without_traces_is_told(tmp_path: Path) -> None:
    with pytest.raises(TreniError) as caught:
        read_traces(tmp_path)
    assert caught.value.kind == "traces_missing"
