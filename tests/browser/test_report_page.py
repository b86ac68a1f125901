"""The report of a real run, as people meet it: in a browser, on a telephone, in the dark, by keyboard."""

from __future__ import annotations

import base64
import csv
import io
import shutil
from pathlib import Path

import pytest

from matrices.cli.judge import report
from matrices.evidence.campaign import load_campaign
from matrices.report.charts.drawing import charts_of
from matrices.report.document import Section, Table
from matrices.report.figures import figures
from matrices.report.page.files import PAGE
from matrices.report.sections import page
from tests.browser.conftest import Open, Visit
from tests.places import ROOT

pytestmark = pytest.mark.browser

EXAMPLE = ROOT / "examples" / "matrix-h200" / "run"
MOST_BYTES = 1_500_000
GROSS_MS = 30_000
"""What no machine that works takes; the figure that counts is printed."""

WINDOWS = [(400, "light"), (400, "dark"), (1600, "light"), (1600, "dark")]


@pytest.fixture(scope="module")
def document() -> Section:
    campaign, manifest, history = load_campaign(EXAMPLE)
    return page(figures(manifest, history.events, campaign.expectations))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the example, as the command writes it."""
    copy = tmp_path_factory.mktemp("example") / "run"
    shutil.copytree(EXAMPLE, copy)
    with pytest.raises(SystemExit) as ended:
        report.main([str(copy), "--html"])
    assert ended.value.code == 0
    return copy / PAGE


def sections_of(section: Section) -> list[Section]:
    return [one for inner in section.sections for one in (inner, *sections_of(inner))]


@pytest.fixture
def opened(visit: Open, file: Path) -> Visit:
    window = visit()
    window.page.goto(file.as_uri())
    return window


def test_it_is_one_small_file_that_asks_for_nothing_and_complains_of_nothing(
    opened: Visit, file: Path
) -> None:
    assert file.stat().st_size < MOST_BYTES
    opened.page.wait_for_load_state("networkidle")
    assert opened.asked == [file.as_uri()]
    assert opened.complaints == []


def test_it_can_be_used_at_once(opened: Visit, capsys: pytest.CaptureFixture[str]) -> None:
    opened.page.wait_for_load_state("load")
    timing = opened.page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
    with capsys.disabled():
        print(
            f"\ninteractive after {timing['domInteractive']:.0f} ms, loaded after {timing['loadEventEnd']:.0f} ms"
        )
    assert 0 < timing["domInteractive"] < GROSS_MS


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_it_fits_every_window_in_light_and_dark_without_barriers(
    visit: Open, file: Path, width: int, scheme: str
) -> None:
    window = visit(width=width, scheme=scheme)
    window.page.goto(file.as_uri())
    assert window.overflow_px() <= 0
    assert window.barriers() == []
    background, ink = window.page.evaluate(
        "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
    )
    light = sum(map(int, background[4:-1].split(",")[:3])) > sum(map(int, ink[4:-1].split(",")[:3]))
    assert light == (scheme == "light")
    window.keep(f"report-{width}-{scheme}")
    window.keep(f"report-{width}-{scheme}-whole", full_page=True)


def test_every_section_table_and_chart_is_there(opened: Visit, document: Section) -> None:
    headings = opened.page.locator("h2, main h3:not(.chart-title), main h4").all_inner_texts()
    every = sections_of(document)
    assert headings == [*(one.title for one in every), "Data"]
    tables = sum(isinstance(part, Table) for one in every for part in one.parts)
    assert opened.page.locator("main table").count() == tables > len(document.sections)
    charts = list(charts_of(document))
    assert len(charts) > 20
    for chart in charts:
        drawn = opened.page.locator(f"figure[aria-labelledby='chart-{chart.name}']")
        box = drawn.locator("svg").bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 50
        assert drawn.get_by_role("img").get_attribute("aria-label") == chart.alt


def test_the_colours_of_charts_follow_the_page(visit: Open, file: Path) -> None:
    found = []
    for scheme in ("light", "dark"):
        window = visit(scheme=scheme)
        window.page.goto(file.as_uri())
        label = window.page.locator("figure.chart svg text").first
        found.append(label.evaluate("one => getComputedStyle(one).fill"))
    assert found[0] != found[1]


def test_a_table_is_sorted_by_keyboard_and_says_so(opened: Visit) -> None:
    table = opened.page.locator("main table").first
    heading = table.get_by_role("columnheader", name="ratio")
    button = heading.get_by_role("button")

    def ratios() -> list[float]:
        return [
            float(text.split()[0]) for text in table.locator("tbody tr td:nth-child(4)").all_inner_texts()
        ]

    assert heading.get_attribute("aria-sort") is None
    button.focus()
    opened.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert ratios() == sorted(ratios())
    opened.page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert ratios() == sorted(ratios(), reverse=True)
    assert button.evaluate("one => one === document.activeElement")


def test_the_first_key_leads_past_the_contents(opened: Visit) -> None:
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "main"


def test_what_is_downloaded_is_what_the_folder_has(opened: Visit, file: Path) -> None:
    for name in ("summary.json", "summary.csv", "comparison.csv"):
        with opened.page.expect_download() as waiting:
            opened.page.get_by_role("link", name=name, exact=True).click()
        assert Path(waiting.value.path()).read_bytes() == (file.parent / name).read_bytes()
    link = opened.page.get_by_role("link", name="CSV of differences").get_attribute("href")
    assert link is not None
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link.split(",", 1)[1]).decode())))
    assert len(rows) == 336


def test_without_scripts_everything_can_be_read(visit: Open, file: Path) -> None:
    window = visit(java_script_enabled=False)
    window.page.goto(file.as_uri())
    assert window.page.locator("main table").first.is_visible()
    assert window.page.locator("thead button").count() == 0
