"""The history survives a cut at any byte, refuses what it did not write, and folds each pair exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrices.evidence import chain
from matrices.evidence import events as ev
from matrices.evidence import manifest as mf
from matrices.evidence.history import HistoryWriter, parse_history, read_history, state_of
from tests.limits import HANG_S
from tests.matrices import histories as h
from treni.errors import TreniError

OPENED = ev.Opened(version=2, manifest_sha256="a" * 64, suite_sha256="b" * 64)
EVENTS = [
    OPENED,
    *h.cell_events("p00", {n: h.pair_events("p00", n, block=n // 2) for n in range(4)}, per_block=2),
    ev.Abandon(cell="p00", pair=9, run_ids=("a", "b")),
    ev.Effects(cell="p00", arm="external", rows=(h.effect("p00-0-external"),)),
    ev.Deliveries(cell="p00", arm="external", faults=(h.delivery("f1", "p00-0-external"),)),
    h.failed("p00", 1, "external"),
    ev.Resumed(wall_time=h.WALL, cut_bytes=3),
    ev.Sealed(),
]
UNSEALED = EVENTS[:-1]


def _written(events: Iterable[ev.Event]) -> bytes:
    return chain.linked(map(ev.dump_event, events))


DATA = _written(EVENTS)
OPEN_DATA = _written(UNSEALED)


def test_every_event_reads_back_as_written() -> None:
    history = parse_history(DATA)
    assert list(history.events) == EVENTS
    assert history.torn_bytes == 0
    assert {event.type for event in EVENTS} == {
        "cell", "block", "pair", "invoke", "outcome", "pair_complete", "abandon", "deliveries", "effects",
        "cell_end", "resumed", "opened", "sealed",
    }  # fmt: skip


@given(st.integers(0, len(DATA)))
def test_a_file_cut_at_any_byte_is_a_prefix_of_whole_events(cut: int) -> None:
    history = parse_history(DATA[:cut])
    assert list(history.events) == EVENTS[: len(history.events)]
    rest = DATA[cut - history.torn_bytes : cut]
    assert b"\n" not in rest
    assert _written(history.events) + rest == DATA[:cut]


def _is_refused(data: bytes) -> bool:
    """Whether reading fails, or finds that the campaign is not finished: what `check` tells of either way."""
    try:
        return not parse_history(data).sealed
    except TreniError as error:
        return error.kind in ("history_broken", "history_malformed")


def test_every_single_byte_that_changes_is_found() -> None:
    generator = random.Random(11)
    for _ in range(2000):
        place, bit = generator.randrange(len(DATA)), 1 << generator.randrange(8)
        changed = bytearray(DATA)
        changed[place] ^= bit
        assert _is_refused(bytes(changed)), f"bit {bit} of byte {place}: {DATA[place - 40 : place + 40]!r}"


@given(st.data())
def test_a_line_dropped_doubled_moved_or_forged_is_found(data: st.DataObject) -> None:
    lines = DATA.splitlines(keepends=True)
    first, second = sorted(data.draw(st.sets(st.integers(0, len(lines) - 1), min_size=2, max_size=2)))
    swapped = list(lines)
    swapped[first], swapped[second] = lines[second], lines[first]
    forged = lines[first].replace(b'"p00"', b'"p01"').replace(b"aaaa", b"cccc").replace(b"sealed", b"seal")
    for changed in (
        lines[:first] + lines[first + 1 :],
        [*lines[:first], lines[first], *lines[first:]],
        swapped,
        *([[*lines[:first], forged, *lines[first + 1 :]]] if forged != lines[first] else []),
        lines[: second if second < len(lines) - 1 else first],
        [*lines, lines[-1]],
    ):
        assert _is_refused(b"".join(changed))


def test_a_broken_line_is_told_with_its_number() -> None:
    lines = DATA.splitlines(keepends=True)
    with pytest.raises(TreniError, match=r"h\.jsonl line 5 to carry the digest of line 4") as caught:
        parse_history(b"".join([*lines[:4], *lines[5:]]), name="h.jsonl")
    assert caught.value.kind == "history_broken"


def _run_to_the_end(path: Path, pairs: int) -> None:
    """What a harness does with a history: abandon what had begun, run what is not complete."""
    if path.exists():
        writer, events = HistoryWriter.resume(path, wall_time=h.WALL)
    else:
        writer, events = HistoryWriter.create(path, OPENED), ()
    with writer:
        state = state_of(events).get("p00")
        done = set() if state is None else set(state.completed)
        for pair, begun in ({} if state is None else state.begun).items():
            runs = tuple(invoke.run_id for invoke in begun.invokes.values())
            writer.append(ev.Abandon(cell="p00", pair=pair, run_ids=runs))
        for pair in range(pairs):
            if pair not in done:
                for event in h.pair_events("p00", pair, block=pair // 4):
                    writer.append(event)


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), max_size=4))
def test_resuming_after_cuts_anywhere_repeats_no_pair(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[float]
) -> None:
    path = tmp_path_factory.mktemp("cut") / "history.jsonl"
    _run_to_the_end(path, 6)
    for cut in cuts:
        # Not into the first line: a campaign that was killed before that one was whole has nothing to resume.
        first = path.read_bytes().index(b"\n") + 1
        os.truncate(path, max(first, int(cut * path.stat().st_size)))
        before = path.read_bytes()
        kept = before[: before.rfind(b"\n") + 1]
        _run_to_the_end(path, 6)
        assert path.read_bytes().startswith(kept), "what was whole must never change"
    state = state_of(read_history(path).events)["p00"]
    assert sorted(state.completed) == list(range(6))
    assert not state.begun
    assert not state.repeated
    assert not state.stray


def test_resume_cuts_the_torn_line_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(OPEN_DATA + b'{"type":"pair_comp')
    writer, events = HistoryWriter.resume(path, wall_time=h.WALL)
    writer.close()
    assert events[-1] == ev.Resumed(wall_time=h.WALL, cut_bytes=18)
    assert read_history(path).events == events


def test_what_run_ids_count_is_durable_before_a_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a machine that dies would count a start anew, and two runs would share an id."""
    path = tmp_path / "history.jsonl"
    synced: list[bytes] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    writer = HistoryWriter.create(path, OPENED)
    assert synced[-1] == path.read_bytes()
    writer.append(ev.PairCompleted(cell="p00", pair=0))
    assert synced[-1] != path.read_bytes()  # no request waits for a disk
    writer.close()
    resumed, _ = HistoryWriter.resume(path, wall_time=h.WALL)
    assert synced[-1] == path.read_bytes()
    assert b'"resumed"' in synced[-1]
    resumed.close()


def test_a_malformed_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(OPEN_DATA + b"not json\n" + b"torn")
    with pytest.raises(TreniError) as caught:
        HistoryWriter.resume(path, wall_time=h.WALL)
    assert caught.value.kind == "history_broken"
    assert f"line {len(EVENTS)}" in str(caught.value)
    assert path.read_bytes() == OPEN_DATA + b"not json\n" + b"torn"


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('{"type":"pair_complete","cell":"p00"}', "pair"),
        ('{"type":"pair_complete","cell":"p00","pair":1,"colour":"red"}', "colour"),
        ('{"type":"pair_complete","cell":"p00","pair":"1"}', "pair"),
        ('{"type":"pair_completed","cell":"p00","pair":1}', "type"),
        ('{"cell":"p00","pair":1}', "discriminator"),
        ("[]", "line 2"),
        ("x", "line 2"),
        ('{"type":"opened","version":2,"manifest_sha256":"","suite_sha256":""}', "first line"),
    ],
)
def test_a_wrong_line_is_an_error_that_names_line_and_key(line: str, names: str) -> None:
    with pytest.raises(TreniError) as caught:
        parse_history(chain.linked([ev.dump_event(OPENED), line.encode()]))
    assert caught.value.kind == "history_malformed"
    assert "line 2" in str(caught.value)
    assert names in str(caught.value)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with HistoryWriter.create(path, OPENED):
        with pytest.raises(TreniError) as caught:
            HistoryWriter.resume(path, wall_time=h.WALL)
        assert caught.value.kind == "file_in_use"
    with pytest.raises(TreniError) as caught:
        HistoryWriter.create(path, OPENED)
    assert caught.value.kind == "file_exists"


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """A file size limit makes the kernel take a part of a line; run in a child, because limits stay."""
    path = tmp_path / "history.jsonl"
    script = """
import resource, signal, sys
from pathlib import Path
from matrices.evidence import events as ev
from matrices.evidence.history import HistoryWriter
from treni.errors import TreniError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (550, 550))
opened = ev.Opened(version=2, manifest_sha256="a" * 64, suite_sha256="b" * 64)
writer = HistoryWriter.create(Path(sys.argv[1]), opened)
try:
    for pair in range(9):
        writer.append(ev.PairCompleted(cell="p00", pair=pair))
except TreniError as error:
    print(error.kind)
"""
    child = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert child.stdout.strip() == "disk_full"
    history = read_history(path)
    assert history.torn_bytes == 0
    assert [event.pair for event in history.events if isinstance(event, ev.PairCompleted)] == [0, 1]


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    """The child says which pair it has written and is killed while it goes on writing."""
    path = tmp_path / "history.jsonl"
    script = """
import sys
from pathlib import Path
from matrices.evidence import events as ev
from matrices.evidence.history import HistoryWriter
opened = ev.Opened(version=2, manifest_sha256="a" * 64, suite_sha256="b" * 64)
writer = HistoryWriter.create(Path(sys.argv[1]), opened)
pair = 0
while True:
    writer.append(ev.PairCompleted(cell="p00", pair=pair))
    if pair % 100 == 0:
        print(pair, flush=True)
    pair += 1
"""
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child, child.stdout:
        said = [int(child.stdout.readline()) for _ in range(3)]
        child.send_signal(signal.SIGKILL)
    written = [event.pair for event in read_history(path).events if isinstance(event, ev.PairCompleted)]
    assert written == list(range(len(written)))
    assert written[-1] >= said[-1]


def test_the_fold_counts_attempts_of_completed_pairs_only() -> None:
    twice = h.outcome(
        "p00",
        0,
        "external",
        record=h.record(
            "external",
            attempts=[h.attempt(), h.attempt("tool", code="UNAVAILABLE"), h.attempt("tool", nth=1)],
        ),
    )
    first = h.pair_events("p00", 0, block=0, outcomes={"external": twice})
    begun = h.pair_events("p00", 1, block=0, outcomes={"external": replace(twice, pair=1)})[:-1]
    state = state_of([*first, *begun])["p00"]
    assert state.attempts(arm="external", hop="tool") == 2
    assert state.attempts(arm="external", hop="model") == 1
    assert state.attempts(arm="internal", hop="tool") == 0
    assert list(state.completed) == [0]
    assert list(state.begun) == [1]


def test_the_fold_tells_what_was_repeated_or_strayed() -> None:
    pair = h.pair_events("p00", 0, block=0)
    state = state_of([*pair, *pair, h.outcome("p00", 5, "internal")])["p00"]
    assert state.repeated == [0, 0]
    assert len(state.stray) == 5
    assert len(state.completed) == 1


def test_a_restarted_cell_is_not_ended() -> None:
    events = h.cell_events("p00", {0: h.pair_events("p00", 0, block=0)})
    assert state_of(events)["p00"].ended is not None
    assert state_of([*events, events[0]])["p00"].ended is None


def test_the_manifest_reads_back_and_names_a_wrong_key() -> None:
    manifest = h.manifest(h.manifest_cell())
    data = mf.dump_manifest(manifest)
    assert mf.parse_manifest(data) == manifest
    raw = json.loads(data)
    raw["cells"][0]["colour"] = "red"
    with pytest.raises(TreniError) as caught:
        mf.parse_manifest(json.dumps(raw).encode())
    assert caught.value.kind == "manifest_malformed"
    assert "cells.0.colour" in str(caught.value)
