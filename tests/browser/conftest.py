"""A headless Chromium, and pages in it that remember everything they complained of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import PROGRAM
from tests.places import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOTS = ROOT / "build" / "screenshots"
"""Where screenshots are kept."""


class Visit:
    """A page in a window of its own, with what its console said and what it asked the network for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def barriers(self) -> list[str]:
        """What axe holds to be serious or critical, a line each."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response
        assert found["passes"], "axe judged something"
        return [
            f"{one['impact']} {one['id']}: {node['html'][:200]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def overflow_px(self) -> int:
        """By how much the page is wider than its window."""
        wider: int = self.page.evaluate(
            "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - window.innerWidth"
        )
        return wider

    def keep(self, name: str, **options: Any) -> Path:
        """Keeps a screenshot under that name."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        self.page.screenshot(path=path, **options)
        return path


PATIENCE_MS = 60_000
"""How long something may take to appear that is there already, or is being made by nobody."""

Open = Callable[..., Visit]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = shutil.which(PROGRAM)
    assert program is not None, f"no {PROGRAM}: `make test-report` installs it"
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    """Opens windows of a width (`width`) and a colour scheme (`scheme`)."""
    contexts = []

    def open_one(*, width: int = 1280, height: int = 900, scheme: str = "light", **options: Any) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type, unused-ignore]
            **options,
        )
        contexts.append(context)
        return Visit(context.new_page())

    yield open_one
    for context in contexts:
        context.close()
