"""Faults as they travel, and the delivery log."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.deliveries import Delivery, DeliveryLog, read_deliveries
from chaos.faults import (
    FAULTS,
    Bandwidth,
    Crash,
    Fault,
    FaultKind,
    Hang,
    Hog,
    Latency,
    Leak,
    LinkDelay,
    NodeKilled,
    PacketLoss,
    Partition,
    Reset,
    ServiceKilled,
    ServicePaused,
    Slicer,
    Stall,
    Status,
    Struck,
    decode,
    fault_of,
)
from chaos.faults.registry import FaultKinds
from treni import metadata
from treni.errors import TreniError

positive = st.integers(1, 10**9)
kinds = st.one_of(
    st.builds(Status, code=st.sampled_from(["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"])),
    st.builds(Stall, direction=st.sampled_from(["request", "response"])),
    st.builds(Reset),
    st.builds(Latency, delay_ms=st.integers(1, 3_600_000)),
    st.builds(Bandwidth, rate_kb_s=positive),
    st.builds(Slicer, average_size_bytes=positive, delay_us=positive),
)
host_kinds = st.one_of(
    st.builds(Crash),
    st.builds(Hang, duration_ms=st.integers(1, 60_000)),
    st.builds(Hog, duration_ms=st.integers(1, 60_000), memory_mb=st.integers(1, 1024)),
    st.builds(Leak, size_mb=st.integers(1, 1024)),
)
outages_ms = st.integers(1, 60_000)
disturbances = st.one_of(
    st.builds(Partition, direction=st.sampled_from(["both", "request", "response"]), duration_ms=outages_ms),
    st.builds(PacketLoss, share=st.floats(0.001, 0.999), duration_ms=outages_ms),
    st.builds(LinkDelay, delay_ms=outages_ms, jitter_ms=outages_ms, duration_ms=outages_ms),
    st.builds(ServiceKilled, duration_ms=outages_ms),
    st.builds(ServicePaused, duration_ms=outages_ms),
    st.builds(NodeKilled, duration_ms=outages_ms),
)
ids = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80)


@given(
    fault=st.one_of(
        st.builds(Fault, id=ids, site=st.just("hop"), hop=st.sampled_from(["tool", "model"]), kind=kinds),
        st.builds(Fault, id=ids, site=st.just("tool"), hop=st.just("tool"), kind=host_kinds),
        st.builds(
            Fault,
            id=ids,
            site=st.just("host"),
            hop=st.sampled_from(["tool", "model", "agent"]),
            kind=disturbances,
        ),
    )
)
def test_a_fault_survives_its_metadata(fault: Fault) -> None:
    assert decode(fault.encode()) == fault
    assert decode(fault.encode().encode()) == fault
    assert fault_of(fault.to_metadata()) == fault


def test_the_wire_form() -> None:
    fault = Fault(id="p04:tool:n3:stall", site="hop", hop="tool", kind=Stall(direction="response"))
    assert fault.to_metadata() == {
        metadata.FAULT: '{"id":"p04:tool:n3:stall","site":"hop","hop":"tool","kind":"stall","direction":"response"}'
    }
    assert fault_of({}) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "[]",
        "null",
        "{}",
        "[" * 1000,
        '{"id":"a","site":"hop","hop":"tool"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"flood"}',
        '{"id":"a","site":"hop","hop":"tool","kind":["stall"]}',
        '{"id":"a","site":"hop","hop":"tool","kind":"stall","direction":"sideways"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"stall","direction":["request"]}',
        '{"id":"a","site":"hop","hop":"tool","kind":"stall","speed":1}',
        '{"id":"a","site":"hop","hop":"tool","kind":"status","code":"INVALID_ARGUMENT"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"latency"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"latency","delay_ms":"1"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"latency","delay_ms":true}',
        '{"id":"a","site":"hop","hop":"tool","kind":"latency","delay_ms":0}',
        '{"id":"a","site":"hop","hop":"tool","kind":"latency","delay_ms":NaN}',
        '{"id":"a","site":"hop","hop":"tool","kind":"latency","delay_ms":1e3}',
        '{"id":"a","site":"hop","hop":"tool","kind":"latency","delay_ms":99999999999999999999}',
        '{"id":"a","site":"hop","hop":"tool","kind":"bandwidth","rate_kb_s":9223372036854775808}',
        '{"id":"a","site":"tool","hop":"tool","kind":"reset"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"crash"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"leak","size_mb":1}',
        '{"id":"a","site":"tool","hop":"tool","kind":"hang"}',
        '{"id":"a","site":"tool","hop":"tool","kind":"hang","duration_ms":0}',
        '{"id":"a","site":"tool","hop":"tool","kind":"hang","duration_ms":60001}',
        '{"id":"a","site":"tool","hop":"tool","kind":"hog","duration_ms":1,"memory_mb":1025}',
        '{"id":"a","site":"tool","hop":"tool","kind":"leak","size_mb":1025}',
        '{"id":"a","site":"tool","hop":"model","kind":"stall"}',
        '{"id":"a","site":"host","hop":"tool","kind":"stall","direction":"request"}',
        '{"id":"a","site":"hop","hop":"tool","kind":"partition","duration_ms":1}',
        '{"id":"a","site":"host","hop":"tool","kind":"partition"}',
        '{"id":"a","site":"host","hop":"tool","kind":"partition","duration_ms":60001}',
        '{"id":"a","site":"host","hop":"tool","kind":"packet_loss","duration_ms":1,"share":1.0}',
        '{"id":"","site":"hop","hop":"tool","kind":"reset"}',
        '{"id":7,"site":"hop","hop":"tool","kind":"reset"}',
        '{"id":"a","site":{},"hop":"tool","kind":"reset"}',
        b"\xff\xfe",
        '{"id":"' + "a" * 5000 + '"}',
    ],
)
def test_anything_else_is_refused(value: str | bytes) -> None:
    with pytest.raises(TreniError) as caught:
        decode(value)
    assert (caught.value.code.name, caught.value.kind) == ("INVALID_ARGUMENT", "fault_invalid")


@given(junk=st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_no_bytes_raise_anything_but_a_treni_error(junk: str | bytes) -> None:
    with pytest.raises(TreniError):
        decode(junk)


TIMEOUT_S = 0.25


@pytest.mark.parametrize(
    ("kind", "outcome", "code", "runs", "least_s", "most_s"),
    [
        (Status(), "fail", "UNAVAILABLE", False, 0.0, 0.0),
        (Status(code="ABORTED"), "fail", "ABORTED", False, 0.0, 0.0),
        (Stall(direction="request"), "unknown", "DEADLINE_EXCEEDED", False, 0.25, 0.25),
        (Stall(direction="response"), "unknown", "DEADLINE_EXCEEDED", True, 0.25, 0.25),
        (Reset(), "unknown", "UNAVAILABLE", False, 0.0, 0.0),
        (Latency(delay_ms=249), "ok", "OK", True, 0.249, 0.25),
        (Latency(delay_ms=250), "unknown", "DEADLINE_EXCEEDED", True, 0.25, 0.25),
        (Bandwidth(rate_kb_s=1), "ok", "OK", True, 0.1, 0.25),
        (Bandwidth(rate_kb_s=10), "ok", "OK", True, 0.01, 0.25),
        (Slicer(average_size_bytes=10, delay_us=1000), "ok", "OK", True, 0.009, 0.25),
        (Crash(), "unknown", "UNAVAILABLE", False, 0.0, 0.25),
        (Hang(duration_ms=249), "ok", "OK", True, 0.249, 0.25),
        (Hang(duration_ms=250), "unknown", "DEADLINE_EXCEEDED", False, 0.25, 0.25),
        (Hang(duration_ms=9999), "unknown", "DEADLINE_EXCEEDED", False, 0.25, 0.25),
        (Hog(duration_ms=9999, memory_mb=1), "ok", "OK", True, 0.25, 0.25),
        (Leak(size_mb=1), "ok", "OK", True, 0.0, 0.25),
        (Partition(duration_ms=249), "ok", "OK", True, 0.249, 0.25),
        (Partition(duration_ms=250), "unknown", "DEADLINE_EXCEEDED", False, 0.25, 0.25),
        (PacketLoss(share=0.5, duration_ms=9999), "ok", "OK", True, 0.0, 0.25),
        (LinkDelay(delay_ms=100, jitter_ms=40, duration_ms=9999), "ok", "OK", True, 0.06, 0.25),
        (LinkDelay(delay_ms=100, jitter_ms=999, duration_ms=9999), "ok", "OK", True, 0.0, 0.25),
        (ServiceKilled(duration_ms=1), "unknown", "UNAVAILABLE", False, 0.0, 0.25),
        (ServicePaused(duration_ms=249), "ok", "OK", True, 0.249, 0.25),
        (ServicePaused(duration_ms=250), "unknown", "DEADLINE_EXCEEDED", False, 0.25, 0.25),
        (NodeKilled(duration_ms=1), "unknown", "DEADLINE_EXCEEDED", False, 0.25, 0.25),
    ],
)
def test_how_an_attempt_ends_under_each_kind(
    kind: FaultKind,
    outcome: str,
    code: str,
    runs: bool,
    least_s: float,
    most_s: float,
) -> None:
    ending = kind.ending(Struck(timeout_s=TIMEOUT_S, answer_bytes=100))
    assert (ending.outcome, ending.code, ending.tool_runs) == (outcome, code, runs)
    assert ending.least_s == pytest.approx(least_s)
    assert ending.most_s == most_s
    assert ending.is_error == (outcome != "ok")
    assert ending.code in {"OK", *kind.codes}
    assert not ending.caller_dies


def test_in_the_callers_own_process_a_host_fault_strikes_the_caller() -> None:
    hang, crash = (
        kind.ending(Struck(timeout_s=TIMEOUT_S, in_process=True)) for kind in (Hang(duration_ms=900), Crash())
    )
    assert (hang.least_s, hang.caller_dies, crash.caller_dies) == (0.9, False, True)
    assert hang.kinds == {"deadline_exceeded", "injected_hang"}


@pytest.mark.parametrize("kind", FAULTS.values())
def test_a_kind_says_what_a_rule_needs_to_know(kind: type[FaultKind]) -> None:
    assert (kind.__doc__ or "").endswith(".")
    assert all(info.description for info in kind.model_fields.values())
    assert kind.breaks_host or kind.disturbs or kind.sites >= {"hop"}
    assert kind.disturbs == (kind.sites == {"host"})
    assert kind.disturbs or not kind.on_link
    assert kind.breaks_host or not kind.kills_host


GOOD = """
from typing import ClassVar
from chaos.faults import FaultKind, Refusal, answered

class Kind(FaultKind):
    name: ClassVar[str] = "mine"
    letter: ClassVar[str] = "Q"
    sites: ClassVar = frozenset({"hop", "tool"})
    size: int

    def ending(self, struck):
        return answered(least_s=0.0, struck=struck)

    def on_hop(self):
        return Refusal(code=None)

    async def at_tool(self, call):
        return await call.run()
"""


MakePackage: TypeAlias = Callable[[str], FaultKinds]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePackage:
    """Makes a package with the entry point `mine` out of a module's source."""

    def make(source: str, name: str = "mine") -> FaultKinds:
        info = tmp_path / "mine-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[treni_route.faults]\n{name} = my_kind:Kind\n")
        (tmp_path / "my_kind.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "my_kind", raising=False)
        return FaultKinds()

    return make


def test_a_package_adds_a_kind(package: MakePackage) -> None:
    found = package(GOOD)
    assert set(found) == {*FAULTS, "mine"}
    kind: Callable[..., FaultKind] = found["mine"]
    assert kind(size=3) == kind(size=3) != kind(size=4)
    assert list(found["mine"].keys()) == ["size"]
    assert found["stall"] is Stall


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("(FaultKind)", "(Refusal)"), "a type"),
        (('name: ClassVar[str] = "mine"', 'name: ClassVar[str] = "other"'), "named 'other'"),
        (('    letter: ClassVar[str] = "Q"\n', ""), "does not say letter"),
        (("def ending", "def beginning"), "does not say ending"),
        (("def on_hop", "def on_foot"), "does not say on_hop"),
        (("async def at_tool", "async def at_last"), "does not say at_tool"),
        (('frozenset({"hop", "tool"})', 'frozenset({"moon"})'), "the sites ['moon']"),
        (('frozenset({"hop", "tool"})', "frozenset()"), "the sites []"),
        (('"Q"', '"F"'), "the letter F, which another has"),
        (('"Q"', '"Q,"'), "the letter 'Q,'"),
        (("size: int", "every: int"), "the keys every"),
        (("from typing import ClassVar", "import nowhere_to_be_found"), "nowhere_to_be_found"),
    ],
)
def test_a_kind_that_is_none_is_refused_by_name(
    package: MakePackage, change: tuple[str, str], says: str
) -> None:
    assert change[0] in GOOD
    found = package(GOOD.replace(*change))
    with pytest.raises(TreniError) as caught:
        found["mine"]
    assert caught.value.kind == "plugin_unusable"
    assert says in str(caught.value)
    assert found["stall"] is Stall


def test_an_unknown_kind_costs_no_look_at_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a fault of no kind must not make a server read every installed package's metadata."""
    assert "stall" in FAULTS
    monkeypatch.setattr("treni.plugins.entry_points", None)
    with pytest.raises(TreniError, match="flood"):
        decode('{"id":"a","site":"hop","hop":"tool","kind":"flood"}')


def test_no_two_kinds_share_a_letter() -> None:
    assert len({kind.letter for kind in FAULTS.values()}) == len(FAULTS)


def write_many(path: Path, who: str) -> None:
    with DeliveryLog(path) as log:
        for attempt in range(200):
            log.append(
                Fault(id=f"{who}:{attempt}", site="hop", hop="tool", kind=Reset()),
                "lane",
                run_id=who,
                attempt=attempt,
            )


def test_two_processes_may_write_one_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, who)) for who in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    rows = read_deliveries(path)
    assert sorted(row.fault_id for row in rows) == sorted(
        f"{who}:{i}" for who in ("a", "b") for i in range(200)
    )
    assert [row.attempt for row in rows if row.run_id == "a"] == list(range(200))


def test_a_torn_last_line_is_left_out_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_deliveries(path) == []
    fault = Fault(id="f", site="hop", hop="tool", kind=Reset())
    with DeliveryLog(path) as log:
        log.append_for(fault, "lane", {metadata.RUN_ID: "r", metadata.ATTEMPT: b"2"})
        log.append_for(fault, "lane", {metadata.ATTEMPT: "no number"})
    whole = [
        Delivery(fault_id="f", site="hop", hop="tool", kind="reset", how="lane", run_id="r", attempt=2),
        Delivery(fault_id="f", site="hop", hop="tool", kind="reset", how="lane", run_id="", attempt=0),
    ]
    assert read_deliveries(path) == whole
    with path.open("ab") as file:
        file.write(b'{"fault_id":"g","si')
    assert read_deliveries(path) == whole
    with path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(TreniError, match="line 3") as caught:
        read_deliveries(path)
    assert caught.value.code.name == "DATA_LOSS"
