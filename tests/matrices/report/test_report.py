"""The report says what the history holds, in the same bytes each time."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos.faults import Stall, Status
from chaos.schedule import Rule, Schedule
from chaos.when import Every
from matrices.evidence import chain
from matrices.evidence import events as ev
from matrices.evidence.events import dump_event
from matrices.evidence.history import parse_history
from matrices.evidence.manifest import dump_manifest, parse_manifest
from matrices.planning.expectation import Expectation
from matrices.report.advice import ADVICE, reasons
from matrices.report.csv_files import read_csv
from matrices.report.csv_page import csv_markdown
from matrices.report.figures import Figures, figures
from matrices.report.files import ExitStatus, exit_status, render, write_report
from matrices.report.formats import ms, number
from matrices.report.sections.results import legend, results
from matrices.report.terminal import table_text
from matrices.statistics.verdicts import Floor
from tests.matrices import faithful as f
from tests.matrices import histories as h
from tests.places import ROOT

GOLDEN = Path(__file__).parent / "golden"
P04 = Schedule(
    prefix="p04",
    rules=(
        Rule(kind=Status(), when=Every(every=2)),
        Rule(kind=Stall(direction="request"), when=Every(every=3)),
    ),
    warmup=1,
)
CELLS = (
    h.manifest_cell("aa", profile="aa", arms=("internal", "internal_b")),
    h.manifest_cell("p00", profile="p00_baseline"),
    h.manifest_cell("p04", profile="p04_mixed_aggressive", site="hop"),
)
MANIFEST = h.manifest(*CELLS, runs=12)


def _campaign(**delays_s: float) -> tuple[list[ev.Event], list[Expectation]]:
    aa, aa_expected = f.campaign_cell("aa", arms=("internal", "internal_b"))
    p00, p00_expected = f.campaign_cell("p00", delay_s=delays_s.get("p00", 0.0))
    p04, p04_expected = f.campaign_cell("p04", schedule=P04, delay_s=delays_s.get("p04", 0.0))
    return [*aa, *p00, *p04, ev.Sealed()], [aa_expected, p00_expected, p04_expected]


EVENTS, EXPECTATIONS = _campaign()


def _figures(events: list[ev.Event] = EVENTS) -> Figures:
    return figures(MANIFEST, events, EXPECTATIONS)


TABLE, LEGEND = results(_figures()), legend(_figures())


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _changed(match: dict[str, Any], **changes: Any) -> list[ev.Event]:
    def is_meant(event: ev.Event) -> bool:
        return all(getattr(event, name, None) == value for name, value in match.items())

    assert any(map(is_meant, EVENTS))
    return [replace(event, **changes) if is_meant(event) else event for event in EVENTS]


def test_the_csv_files_have_the_columns_that_are_promised() -> None:
    files = render(_figures())
    summary = files["summary.csv"].splitlines()[0].split(",")
    assert summary[:10] == [
        "profile", "arm", "requests", "errors", "error_rate", "retries_mean_success", "latency_mean_ms",
        "latency_p50_ms", "latency_p95_ms", "ttft_p50_ms",
    ]  # fmt: skip
    comparison = files["comparison.csv"].splitlines()[0].split(",")
    assert comparison[:17] == [
        "profile", "pairs", "pairs_void", "ratio", "ratio_ci_low", "ratio_ci_high", "delta_ms", "delta_ci_low",
        "delta_ci_high", "verdict", "claim_safe", "faults_planned", "faults_delivered", "faults_observed",
        "effects_lost", "effects_duplicate", "effects_phantom",
    ]  # fmt: skip


def test_the_rows_hold_the_published_counts() -> None:
    files = render(_figures())
    rows = {(row["profile"], row["arm"]): row for row in _rows(files["summary.csv"])}
    assert list(rows) == [
        ("aa", "internal"), ("aa", "internal_b"), ("p00_baseline", "internal"), ("p00_baseline", "external"),
        ("p04_mixed_aggressive", "internal"), ("p04_mixed_aggressive", "external"),
    ]  # fmt: skip
    p04 = rows["p04_mixed_aggressive", "external"]
    assert (p04["requests"], p04["errors"]) == ("48", "4")
    assert round(float(p04["error_rate"]), 4) == 0.0833
    assert round(float(p04["retries_mean_success"]), 3) == 0.182
    assert p04["latency_p99_ms"] == ""
    assert float(p04["latency_success_mean_ms"]) < float(p04["latency_mean_ms"])
    assert rows["p04_mixed_aggressive", "internal"]["errors"] == "0"
    compared = {row["profile"]: row for row in _rows(files["comparison.csv"])}
    assert compared["p04_mixed_aggressive"]["verdict"] == "external slower"
    assert compared["p04_mixed_aggressive"]["faults_observed"] == "16"
    assert compared["p04_mixed_aggressive"]["baseline_faults_planned"] == "0"
    assert compared["p04_mixed_aggressive"]["pairs_success"] == "44"
    assert compared["p04_mixed_aggressive"]["reliability"] == "inconclusive"
    assert compared["p04_mixed_aggressive"]["error_rate_delta"] == "0.0833"
    assert compared["p00_baseline"]["reliability"] == "same errors"
    assert compared["aa"]["verdict"] == "equivalent within the margin"
    assert [row["confidence"] for row in compared.values()] == ["0.99", "0.95", "0.95"]
    assert compared["p04_mixed_aggressive"]["claim_safe"] == "yes"
    # Shown at 5 %, and not at the level that a claim has to meet: the row says which gate.
    assert compared["p00_baseline"]["verdict"] == "equivalent within the margin"
    assert compared["p00_baseline"]["gates_failed"] in ("", "beyond_chance")
    assert exit_status(_figures()) is ExitStatus.PASS


def test_a_planted_difference_is_found_and_lies_in_its_interval() -> None:
    events, expectations = _campaign(p00=0.002)
    row = _rows(render(figures(MANIFEST, events, expectations))["comparison.csv"])[1]
    assert float(row["delta_ci_low"]) <= 2.0 + 0.15
    assert float(row["delta_ci_high"]) >= 2.0 - 0.15
    assert row["verdict"] == "external slower"


def test_the_report_is_the_same_bytes_from_the_files_alone(tmp_path: Path) -> None:
    opened = ev.Opened(version=2, manifest_sha256="", suite_sha256="")
    data = chain.linked(map(dump_event, [opened, *EVENTS]))
    again = figures(parse_manifest(dump_manifest(MANIFEST)), parse_history(data).events, EXPECTATIONS)
    first = render(_figures())
    assert render(again) == first
    paths = write_report(tmp_path, again)
    assert {path.name: path.read_bytes().decode() for path in paths} == first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(first)


@pytest.mark.parametrize("name", ["summary.csv", "comparison.csv", "summary.md", "table.txt"])
def test_the_golden_report(name: str) -> None:
    """A change here changes what users read: look at the difference, then write the file anew from the failure."""
    texts = {**render(_figures()), "table.txt": table_text(TABLE, LEGEND)}
    assert texts[name] == (GOLDEN / name).read_text(encoding="utf-8")


def test_an_older_campaign_is_reported_as_it_was_and_read_under_todays_names() -> None:
    old = render(figures(replace(MANIFEST, version=2), EVENTS, EXPECTATIONS))
    new = render(_figures())
    for name in ("summary.csv", "comparison.csv"):
        assert "schema" not in old[name].splitlines()[0].split(",")
        before, now = read_csv(old[name]), read_csv(new[name])
        assert {row["schema"] for row in now} == {"3"}
        assert [{key: row[key] for key in before[0]} for row in now] == before
    assert "internal_faults_planned" in old["comparison.csv"]
    assert "baseline_faults_planned" in read_csv(old["comparison.csv"])[0]
    assert {(row["baseline"], row["compared"]) for row in read_csv(new["comparison.csv"])} == {
        ("internal", "internal_b"),
        ("internal", "external"),
    }
    assert json.loads(new["summary.json"])["schema"] == 3
    assert "schema" not in json.loads(old["summary.json"])
    assert old["summary.md"] == new["summary.md"]
    second = render(figures(replace(MANIFEST, version=4), EVENTS, EXPECTATIONS))
    assert json.loads(second["summary.json"])["schema"] == 2
    assert "tokens_told" not in second["summary.json"] + second["summary.csv"]
    assert {row["schema"] for row in read_csv(second["summary.csv"])} == {"2"}


def test_the_columns_are_documented() -> None:
    docs = ROOT / "docs" / "csv.md"
    assert docs.read_text(encoding="utf-8") == csv_markdown()


def test_the_table_fits_its_width_and_drops_nothing() -> None:
    text = table_text(TABLE, LEGEND, width=120)
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    for cell in CELLS:
        assert any(line.split()[:1] == [cell.name] for line in text.splitlines())
    assert "external slower" in text
    assert "as often" in text
    assert "unclear" in text
    for heading in (column.heading for column in TABLE.columns):
        assert all(line in text for line in heading)


@pytest.mark.parametrize("width", [200, 110, 80, 60, 40, 20, 1])
def test_a_narrow_table_names_what_it_leaves_out_and_never_loses_the_claim(width: int) -> None:
    text = table_text(TABLE, LEGEND, width=width)
    table, _, rest = text.partition("\n\n")
    assert max(map(len, table.splitlines())) <= max(width, 45)
    first, second, *rows = table.splitlines()
    assert (first.split()[-1], second.split()[-1]) == ("claim", "safe")
    claims = [row.split()[-1] for row in rows if row.split()[:1] in (["aa"], ["p00"], ["p04"])]
    assert claims == ["yes", "no", "yes"]
    for one, two in (column.heading for column in TABLE.columns):
        missing = one not in first.split("  ") and f"{one} {two}".strip() in " ".join(rest.split())
        assert missing or one in first


def test_each_row_that_is_no_claim_says_why_and_what_to_do() -> None:
    title, *lines = reasons(_figures()).splitlines()
    assert title == "Not claim-safe:"
    assert [line.split(":")[0].strip() for line in lines] == ["p00"]
    (line,) = lines
    matter, todo = line.split("; ")
    assert matter.split(": ")[1] in {advice.matter for advice in ADVICE.values()} or "more gate" in matter
    assert todo in {advice.todo for advice in ADVICE.values()}


def test_every_gate_has_its_advice() -> None:
    gates = {gate.name for cell in _figures().cells for gate in cell.gates}
    assert gates | {"predicted"} == set(ADVICE)  # which only a cell whose hosts are struck has


def test_the_summary_is_json_without_infinities() -> None:
    data = json.loads(render(_figures())["summary.json"])
    assert data["status"] == "pass"
    assert [cell["cell"] for cell in data["cells"]] == ["aa", "p00", "p04"]
    external = data["cells"][2]["arms"]["external"]
    assert external["errors"] == 4
    assert sum(external["hops"].values()) == pytest.approx(external["latency"]["mean_s"])


def test_the_summary_has_no_digits_that_a_machine_decides() -> None:
    """Two machines' figures of one campaign, on an H200's host and in CI: they differed from the 15th digit on."""
    found = _figures()
    assert found.floor is not None
    estimate = found.floor.estimate
    errors = (0.0004222500257480768, 0.0004222500257480764)
    one, other = (
        render(replace(found, floor=Floor(estimate=replace(estimate, error=error)))) for error in errors
    )
    assert one["summary.json"] == other["summary.json"]
    assert json.loads(one["summary.json"])["floor"]["estimate"]["error"] == 0.000422250026


def test_the_summary_says_who_has_no_hop() -> None:
    text = render(_figures())["summary.md"]
    assert "the internal arm has no such hop" in text
    assert "External routing was slower" in text
    assert "Errors: 4 of 48 external requests, 0 of 48 internal, +8.3 points" in text
    assert "**external slower; inconclusive; claim-safe.**" in text
    only_p00 = replace(MANIFEST, cells=CELLS[:2])
    calm = render(figures(only_p00, [*EVENTS[: len(EVENTS) * 2 // 3], ev.Sealed()], EXPECTATIONS[:2]))[
        "summary.md"
    ]
    assert "no such hop" not in calm


def test_a_finding_makes_the_row_exploratory_and_the_exit_status_one() -> None:
    seen = _figures(_changed({"type": "outcome", "cell": "p00", "pair": 3, "arm": "external"}, correct=False))
    assert exit_status(seen) is ExitStatus.FINDINGS
    rows = {row["cell"]: row for row in _rows(render(seen)["comparison.csv"])}
    assert rows["p00"]["claim_safe"] == "no"
    assert "check_clean" in rows["p00"]["gates_failed"].split()
    # A finding anywhere is held against every row: no claim is safe where `check` exits with 1.
    assert {row["claim_safe"] for row in rows.values()} == {"no"}
    assert rows["p04"]["gates_failed"] == "check_clean"
    assert "grade_wrong [p00 external pair 3]" in render(seen)["summary.md"]


def test_a_void_pair_is_left_out_and_named() -> None:
    record = h.record("external", prompt=999, attempts=[h.attempt(duration_s=9.0)])
    match = {"type": "outcome", "cell": "p00", "pair": 3, "arm": "external"}
    seen = _figures(_changed(match, record=record, latency_s=9.1))
    row = _rows(render(seen)["comparison.csv"])[1]
    assert (row["pairs"], row["pairs_void"]) == ("48", "1")
    assert float(row["delta_ms"]) < 5
    assert "pair 3: prompt tokens differ: external 999, internal 200" in render(seen)["summary.md"]


def test_contaminated_blocks_are_shown_with_and_without() -> None:
    dirty = [
        replace(event, conditions={**h.CALM, "other_cpu_fraction": 0.9})
        if isinstance(event, ev.Block) and event.phase == "end" and event.cell == "p00" and event.block == 5
        else event
        for event in EVENTS
    ]
    seen = _figures(dirty)
    row = _rows(render(seen)["comparison.csv"])[1]
    assert (row["blocks"], row["blocks_contaminated"], row["pairs_contaminated"]) == ("12", "1", "4")
    assert row["ratio_without_contaminated"] not in ("", row["ratio"])
    assert "block 5: other_cpu_fraction 0.9 > 0.25" in render(seen)["summary.md"]
    assert seen.cells[1].without_contaminated.pairs == 44
    assert seen.cells[1].comparison.pairs == 48


def test_too_few_runs_give_no_interval_and_no_verdict() -> None:
    manifest = h.manifest(*CELLS[:2], runs=2)
    aa, aa_expected = f.campaign_cell("aa", arms=("internal", "internal_b"), runs=2)
    p00, p00_expected = f.campaign_cell("p00", runs=2)
    seen = figures(manifest, [*aa, *p00, ev.Sealed()], [aa_expected, p00_expected])
    assert seen.floor is None
    row = _rows(render(seen)["comparison.csv"])[1]
    assert (row["ratio"], row["delta_ms"], row["verdict"], row["claim_safe"]) == (
        "",
        "",
        "inconclusive",
        "no",
    )
    assert row["gates_failed"] == "aa_measured"
    assert exit_status(seen) is ExitStatus.INCONCLUSIVE
    assert "at least 3 blocks" in render(seen)["summary.md"]


def test_a_campaign_that_never_ran_still_has_a_report() -> None:
    seen = _figures([])
    files = render(seen)
    assert [row["requests"] for row in _rows(files["summary.csv"])] == ["0"] * 6
    assert [row["latency_mean_ms"] for row in _rows(files["summary.csv"])] == [""] * 6
    assert exit_status(seen) is ExitStatus.FINDINGS
    assert [cell.comparison.verdict for cell in seen.cells] == ["inconclusive"] * 3
    assert table_text(results(seen), legend(seen)).count("inconclusive") == 3


def test_an_interrupted_campaign_reports_what_there_is() -> None:
    cut = EVENTS[: len(EVENTS) // 2]
    seen = _figures(cut)
    assert seen.cells[0].complete
    assert not seen.cells[1].complete
    assert "did not run to its end" in render(seen)["summary.md"]
    assert exit_status(seen) is ExitStatus.FINDINGS


def test_numbers_are_never_minus_zero() -> None:
    assert number(-0.00001, 3) == "0.000"
    assert ms(-1e-9) == "0.000"
    assert ms(None) == ""
    assert ms(0.0125, 1, sign=True) == "+12.5"
