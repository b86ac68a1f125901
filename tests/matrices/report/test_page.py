"""The report as one HTML file: whole, self-contained, the same each time, and nobody's to write into."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from tinyhtml5.parser import HTMLParser

from matrices.cli.judge import report
from matrices.report import chart as c
from matrices.report.charts.drawing import as_chart, charts_of
from matrices.report.document import (
    Listing,
    Paragraph,
    Part,
    Section,
    Table,
    Verbatim,
    code,
    paragraph,
    strong,
    table,
)
from matrices.report.figures import Figures
from matrices.report.files import render
from matrices.report.observed import Observed
from matrices.report.page.files import figures_of, page_of
from matrices.report.page.html import html
from matrices.report.sections import page
from tests.matrices.report.test_report import _figures

HOSTILE = (
    """</script></title></style><img src=x onerror="alert(1)"><svg onload='alert(2)'>{{ 7 * 7 }}&quot;]]>"""
)
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def figures() -> Figures:
    return _figures()


@pytest.fixture(scope="module")
def text(figures: Figures) -> str:
    return page_of(figures)


def parsed(text: str) -> Element:
    """The page as a browser reads it. Fails where a browser would have to guess."""
    parser = HTMLParser()
    root = parser.parse(text)
    assert parser.errors == []
    made: Element = root
    return made


def drawn_by_nobody(chart: c.Chart) -> str:
    return '<svg xmlns="http://www.w3.org/2000/svg"></svg>'


def words_of(root: Element) -> str:
    return " ".join("".join(root.itertext()).split())


def parts_of(section: Section) -> Iterator[Part]:
    yield from section.parts
    for inner in section.sections:
        yield from parts_of(inner)


def titles_of(section: Section) -> Iterator[str]:
    for inner in section.sections:
        yield inner.title
        yield from titles_of(inner)


def test_it_is_well_formed_and_holds_all_that_the_report_says(figures: Figures, text: str) -> None:
    root = parsed(text)
    document = page(figures)
    headings = [one for level in ("h2", "h3", "h4") for one in root.iter(f"{HTML}{level}")]
    plain = [
        "".join(one.itertext()) for one in headings if not one.get("class", "").startswith("chart-title")
    ]
    assert sorted(plain) == sorted([*titles_of(document), "Data"])
    said = words_of(root)
    for part in parts_of(document):
        match part:
            case Paragraph():
                assert " ".join(part.text.split()) in said
            case Table(rows=rows):
                told = [one if isinstance(one, str) else one.text for row in rows for one in row]
                assert all(" ".join(one.split()) in said for one in told)
            case Listing(items=items):
                assert all(" ".join(item.split()) in said for item in items)
            case Verbatim(text=whole):
                assert " ".join(whole.split()) in said
            case _:
                chart = as_chart(part)
                assert chart is not None
                assert " ".join(chart.caption.split()) in said
    assert len(list(root.iter(f"{SVG}svg"))) == len(list(charts_of(document))) > 10


def test_it_opens_with_the_verdicts_and_a_sentence_for_each_profile(figures: Figures) -> None:
    first = page(figures).sections[0]
    assert first.title == "Verdict"
    rows, sentences = first.parts
    assert isinstance(rows, Table)
    assert isinstance(sentences, Listing)
    assert [row[0] for row in rows.rows] == ["aa", "p00", "p04"]
    assert [one.split(":")[0] for one in sentences.items] == ["aa", "p00", "p04"]
    assert re.search(r"with external routing, a request takes \d+\.\d\d times as long", sentences.items[2])
    assert "4 of 48 requests failed in the external arm, 0 of 48 in the internal arm" in sentences.items[2]


def test_it_fetches_nothing(text: str) -> None:
    root = parsed(text)
    for element in root.iter():
        for name, value in element.items():
            if name in (
                "src",
                "href",
                "srcset",
                "action",
                "data",
                "poster",
                "{http://www.w3.org/1999/xlink}href",
            ):
                assert value.startswith(("#", "data:")), (element.tag, name, value[:80])
    fetching = {f"{HTML}{name}" for name in ("link", "iframe", "object", "embed", "img", "base")}
    assert not {one.tag for one in root.iter()} & fetching
    style = "".join("".join(one.itertext()) for one in root.iter(f"{HTML}style"))
    assert "url(" not in style
    assert "@import" not in style


def test_a_browser_may_run_the_one_script_and_reach_nothing(text: str) -> None:
    root = parsed(text)
    (script,) = root.iter(f"{HTML}script")
    (policy,) = (one.get("content", "") for one in root.iter(f"{HTML}meta") if one.get("http-equiv"))
    known = base64.b64encode(hashlib.sha256((script.text or "").encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"script-src 'sha256-{known}'"]


def test_tables_and_charts_say_what_they_are(text: str) -> None:
    root = parsed(text)
    assert root.get("lang") == "en"
    for one in root.iter(f"{HTML}table"):
        caption = one.find(f"{HTML}caption")
        assert caption is not None
        assert words_of(caption)
        head = one.find(f"{HTML}thead")
        assert head is not None
        assert all(cell.get("scope") == "col" and words_of(cell) for cell in head.iter(f"{HTML}th"))
    for figure in root.iter(f"{HTML}figure"):
        (image,) = (one for one in figure.iter() if one.get("role") == "img")
        assert image.get("aria-label", "").endswith(".")
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    named = [one.get("aria-labelledby") for one in root.iter() if one.get("aria-labelledby")]
    assert set(named) <= set(ids)
    links = [one.get("href", "")[1:] for one in root.iter(f"{HTML}a") if one.get("href", "").startswith("#")]
    assert set(links) <= set(ids)


def test_the_same_history_gives_the_same_page(text: str) -> None:
    assert page_of(_figures()) == text


def test_what_it_carries_along_is_what_the_folder_has(figures: Figures, text: str) -> None:
    links = {
        one.get("download"): one.get("href", "")
        for one in parsed(text).iter(f"{HTML}a")
        if one.get("download")
    }
    for name, whole in render(figures).items():
        assert base64.b64decode(links[name].split(",", 1)[1]).decode() == whole


def hostile_document() -> Section:
    chart = c.Chart(
        name="x",
        title=HOSTILE,
        caption=HOSTILE,
        alt=HOSTILE,
        rows=({"a": HOSTILE},),
        spec=c.whole({"mark": "bar"}),
    )
    return Section(
        title=HOSTILE,
        parts=(paragraph(HOSTILE, strong(HOSTILE), code(HOSTILE)),),
        sections=(
            Section(
                title=HOSTILE,
                parts=(
                    table([HOSTILE, "b"], [[HOSTILE, strong(HOSTILE)]]),
                    Listing(lead=HOSTILE, items=(HOSTILE,)),
                    Verbatim(name=HOSTILE, text=HOSTILE),
                    chart,
                ),
            ),
        ),
    )


def harmless(root: Element) -> None:
    """Nothing of what was hostile became an element, an attribute, or was computed."""
    assert len(list(root.iter(f"{HTML}script"))) == 1
    assert not list(root.iter(f"{HTML}img"))
    assert not [name for one in root.iter() for name in one.attrib if str(name).startswith("on")]
    assert "{{ 7 * 7 }}" in words_of(root)


def test_no_text_of_a_campaign_becomes_markup() -> None:
    made = html(hostile_document(), draw=drawn_by_nobody, attached={"a.json": HOSTILE})
    root = parsed(made)
    harmless(root)
    assert words_of(root).count("onerror") >= 10


def test_no_name_of_a_campaign_becomes_markup_in_a_chart(figures: Figures) -> None:
    def poisoned(seen: Observed) -> Observed:
        return replace(
            seen,
            pairs=tuple(
                replace(pair, task_id=HOSTILE, family=HOSTILE, stratum=HOSTILE) for pair in seen.pairs
            ),
        )

    cells = tuple(
        replace(
            cell,
            config=replace(cell.config, name=cell.config.name + HOSTILE, profile=HOSTILE, title=HOSTILE),
            observed=poisoned(cell.observed),
        )
        for cell in figures.cells
    )
    harmless(parsed(page_of(replace(figures, cells=cells))))


def test_without_what_draws_the_command_says_what_to_install_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(SystemExit) as ended:
        report.main([str(tmp_path), "--html"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "report_extra_missing" in said or "pip install 'treni-route[report]'" in said
    assert list(tmp_path.iterdir()) == []


def test_a_chart_is_a_picture_too(figures: Figures) -> None:
    one = next(figures_of(figures))
    assert one.png.startswith(b"\x89PNG\r\n")
    assert one.svg.startswith(b"<svg ")
    assert b'fill="white"' in one.svg
    assert one.caption.endswith(".")
