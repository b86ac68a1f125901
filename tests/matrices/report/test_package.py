"""The paper package of kept campaigns: the same bytes, every hash, each claim with its gate, and literal LaTeX."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from pathlib import Path

from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from matrices.cli.main import main
from matrices.cli.package import _names
from matrices.evidence.campaign import load_campaign
from matrices.report.figures import Figures, figures
from matrices.report.package.build import Drawing, build
from matrices.report.package.claims import EXPLORATORY, SAFE, claims_of
from matrices.report.package.drawings import drawings_of
from matrices.report.package.latex import PaperTable, escaped, latex
from matrices.report.package.tables import PaperCampaign
from tests.places import ROOT

KEPT = ROOT / "examples" / "matrix-h200" / "run"


@cache
def result() -> Figures:
    campaign, manifest, history = load_campaign(KEPT)
    return figures(manifest, history.events, campaign.expectations)


def packaged(*findings: str) -> dict[str, bytes]:
    campaign = PaperCampaign(name="one", figures=result(), digest="d" * 64, findings=findings)
    drawing = Drawing(name="ratio", caption="The ratio.", files={"svg": b"<svg/>"})
    return build([campaign], {"one": [drawing]})


def test_each_claim_says_whether_it_is_safe_and_which_gate_decided() -> None:
    claims = {one.cell: one for one in claims_of("one", result())}
    cells = {cell.config.name: cell for cell in result().cells}
    assert set(claims) == set(cells) - {"aa"}
    for name, claim in claims.items():
        failed = [gate.name for gate in cells[name].gates if gate.failed]
        assert (claim.mark == SAFE) is cells[name].claim_safe is (not failed)
        assert claim.decided_by == (failed[0] if failed else "all gates")
        assert claim.pairs == cells[name].comparison.pairs == 48
    assert {one.mark for one in claims.values()} == {SAFE, EXPLORATORY}


def test_every_file_has_its_hash_and_every_caption_its_n() -> None:
    files = packaged()
    sums = {line[66:]: line[:64] for line in files["SHA256SUMS"].decode().splitlines()}
    assert set(sums) == set(files) - {"SHA256SUMS"}
    assert all(hashlib.sha256(files[path]).hexdigest() == digest for path, digest in sums.items())
    told = json.loads(files["manifest.json"])["sha256"]
    assert told == {path: digest for path, digest in sums.items() if path != "manifest.json"}
    captions = files["captions.md"].decode().split("## ")[1:]
    assert {text.split("\n")[0] for text in captions} == {
        path.removesuffix(".tex") for path in files if "/" in path and path.endswith(".tex")
    } | {"one/figures/ratio"}
    assert all("n = 48 pairs a profile in 12 blocks" in text for text in captions if text.startswith("one/"))
    commands = re.findall(r"\\newcommand\{\\([A-Za-z]+)\}", files["captions.tex"].decode())
    assert len(commands) == len(set(commands)) == len(captions)


def test_the_tables_say_in_latex_what_they_say_in_csv() -> None:
    files = packaged()
    for path in (path for path in files if path.endswith(".tex") and path != "captions.tex"):
        rows = list(csv.reader(io.StringIO(files[path.replace(".tex", ".csv")].decode())))
        lines = [line.strip() for line in files[path].decode().splitlines() if line.endswith(r"\\")]
        assert [[literal(cell) for cell in re.split(r" (?<!\\)& ", line[:-3])] for line in lines] == rows, (
            path
        )


def test_what_the_checker_found_stands_in_every_caption() -> None:
    captions = packaged("one thing", "another")["captions.md"].decode().split("## ")[1:]
    assert all("THE CHECKER FOUND 2 THINGS" in text for text in captions if text.startswith("one/"))


def literal(text: str) -> str:
    """What LaTeX sets, of text without any command but those that stand for one character."""
    named = {
        "textbackslash": "\\",
        "textasciitilde": "~",
        "textasciicircum": "^",
        "textless": "<",
        "textgreater": ">",
        "textbar": "|",
        "textasciigrave": "`",
    }
    made, rest = "", text
    while rest:
        if match := re.match(r"\\([a-z]+)\{\}", rest):
            made += named[match[1]]
        elif match := re.match(r"\{\\char34\}", rest):
            made += '"'
        elif match := re.match(r"\\([&%$#_{}])", rest):
            made += match[1]
        elif match := re.match(r"\{\}", rest):
            pass
        else:
            match = re.match(r"[^\\&%$#_{}~^<>|`\"]", rest)
            assert match is not None, f"{rest!r} is not literal"
            made += match[0]
        rest = rest[match.end() :]
    return made


@given(st.text())
def test_escaped_text_is_set_as_it_is(text: str) -> None:
    wanted = "".join(" " if one.isspace() or not one.isprintable() else one for one in text)
    assert literal(escaped(text)) == wanted
    assert not re.search(r"--|,,|''", escaped(text)), "two in a row become another character"


@given(st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2).map(tuple), max_size=3))
def test_no_cell_is_an_argument_of_the_row_before(rows: list[tuple[str, ...]]) -> None:
    table = PaperTable(name="t", caption="c", headings=("a", "b"), rows=tuple(rows))
    text = latex(table, "t")
    assert not re.search(r"\\\\\s*[\[*]", text)
    assert text.count(r" \\" + "\n") == len(rows) + 1


def package(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["package", *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_package_made_again_has_the_same_bytes(tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        ended = package(str(KEPT), "--no-figures", "--out", str(out))
        assert (ended.exit_code, ended.stdout) == (0, f"{out}\n")
    assert contents(outs[0]) == contents(outs[1])
    again = package(str(KEPT), "--out", str(outs[0]))
    assert (again.exit_code, "not there yet" in again.stderr) == (2, True)


def test_a_campaign_whose_report_was_changed_is_refused_or_marked(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    (folder / "summary.md").write_text("better than it was\n", encoding="utf-8")
    refused = package(str(folder), "--out", str(tmp_path / "out"))
    assert (refused.exit_code, "report_differs" in refused.stderr) == (1, True)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    marked = package(str(folder), "--out", str(tmp_path / "out"), "--with-findings", "--no-figures")
    assert marked.exit_code == 0
    assert "THE CHECKER FOUND 1 THINGS" in (tmp_path / "out" / "captions.md").read_text(encoding="utf-8")


def test_the_charts_of_the_report_are_its_figures() -> None:
    drawings = drawings_of(result())
    assert {"ratio", "differences", "timeline-p04"} <= {one.name for one in drawings}
    for one in drawings:
        assert ElementTree.fromstring(one.files["svg"]).tag.endswith("svg")
        assert one.files["png"].startswith(b"\x89PNG")
        assert one.caption


def test_no_claim_of_a_campaign_with_findings_is_safe() -> None:
    """The checker's findings fail a gate of every row, here those of a history without its end."""
    campaign, manifest, history = load_campaign(KEPT)
    unsealed = figures(manifest, history.events[:-1], campaign.expectations)
    assert {one.mark for one in claims_of("one", unsealed)} == {EXPLORATORY}


def test_the_claims_of_two_campaigns_stand_in_one_table() -> None:
    one = PaperCampaign(name="one", figures=result(), digest="d" * 64, findings=())
    files = build([one, replace(one, name="two")], {})
    rows = list(csv.DictReader(io.StringIO(files["tables/claims.csv"].decode())))
    assert [row["campaign"] for row in rows] == ["one"] * 6 + ["two"] * 6
    assert {path.split("/")[0] for path in files if "/data/" in path} == {"one", "two"}


def test_campaigns_whose_names_differ_in_no_letter_have_captions_of_their_own() -> None:
    campaigns = [
        PaperCampaign(name=name, figures=result(), digest="d" * 64, findings=())
        for name in ("a b", "a-b", "ä")
    ]
    told = build(campaigns, {})["captions.tex"].decode()
    commands = re.findall(r"\\newcommand\{\\([A-Za-z]+)\}", told)
    assert len(commands) == len(set(commands)) == told.count("\\newcommand")


def test_folders_of_one_name_are_told_apart_by_those_above_them() -> None:
    assert _names((Path("/-/c"), Path("/c"))) == ["--c", "c"]
    assert _names((Path("/a/x/c"), Path("/b/x/c"), Path("/b/d"))) == ["a-x-c", "b-x-c", "b-d"]
