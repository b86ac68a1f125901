"""The pages: a list of campaigns, one page for each that follows it while it runs, and the report of what has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from matrices.browser.folder import Campaigns
from matrices.browser.following import Progress
from matrices.browser.reports import Reports
from matrices.planning.plan import AA_CELL
from matrices.report.page import layout
from treni.errors import Code, TreniError

HOSTS = ["127.0.0.1", "localhost"]
"""The names by which the pages may be asked for: a page from elsewhere that found another one must not read them."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def application(campaigns: Campaigns) -> Starlette:
    """The application for these campaigns. It only reads."""
    pages = _Pages(campaigns)
    return Starlette(
        routes=[
            Route("/", pages.listing),
            Route("/progress.json", pages.progress),
            Route("/campaign/{name:path}/report.html", pages.report),
            Route("/campaign/{name:path}/", pages.campaign),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={TreniError: pages.refused},
    )


class _Pages:
    """What is answered to each path."""

    def __init__(self, campaigns: Campaigns) -> None:
        self._campaigns = campaigns
        self._reports = Reports(campaigns)
        self._templates = layout.templates(("matrices.browser", "pages"))
        self._templates.globals["verdicts"] = _verdicts
        live = files("matrices.browser").joinpath("pages/live.js").read_text(encoding="utf-8")
        self._script = Markup(live)

    async def listing(self, request: Request) -> Response:
        """The list of campaigns."""
        every = await asyncio.to_thread(self._campaigns.every)
        return self._page("list.html", title="Campaigns", folder=str(self._campaigns.folder), campaigns=every)

    async def campaign(self, request: Request) -> Response:
        """One campaign as it is now."""
        one = await self._one(request)
        return self._page("campaign.html", title=one.name, campaign=one)

    async def progress(self, request: Request) -> Response:
        """How far every campaign is, for scripts."""
        every = await asyncio.to_thread(self._campaigns.every)
        return JSONResponse({"campaigns": [_told(one) for one in every]}, headers=_HEADERS)

    async def report(self, request: Request) -> Response:
        """The report of a campaign that has ended."""
        one = await self._one(request)
        page = await asyncio.to_thread(self._reports.page, one)
        # What a report brings along of script has no business with other pages here.
        sandbox = {"Content-Security-Policy": "sandbox allow-scripts allow-downloads"}
        return HTMLResponse(page, headers={**_HEADERS, **sandbox})

    async def refused(self, request: Request, error: Exception) -> Response:
        """What is answered where a page cannot be made."""
        assert isinstance(error, TreniError)
        status = {Code.NOT_FOUND: 404, Code.FAILED_PRECONDITION: 409, Code.UNAVAILABLE: 503}.get(
            error.code, 500
        )
        return self._page(
            "refused.html", status=status, title="Not now" if status != 404 else "Not here", error=error
        )

    async def _one(self, request: Request) -> Progress:
        name = request.path_params["name"]
        one = await asyncio.to_thread(self._campaigns.one, name)
        if one is None:
            raise TreniError(
                Code.NOT_FOUND,
                "campaign_missing",
                expected=f"a campaign below {self._campaigns.folder}",
                got=repr(name),
                todo="choose one of the list",
            )
        return one

    def _page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        script = self._script
        text = self._templates.get_template(f"{template}.jinja").render(
            contents=False,
            style=layout.style(),
            script=script,
            policy=layout.policy(script, asks_again=True),
            **values,
        )
        return HTMLResponse(text, status_code=status, headers=_HEADERS)


def _verdicts(one: Progress) -> str:
    """The verdicts of a finished campaign in a few words: each with its profiles, exploratory ones marked."""
    by_verdict: dict[str, list[str]] = {}
    for row in one.summary:
        if row.cell != AA_CELL:
            by_verdict.setdefault(row.verdict, []).append(
                row.cell if row.claim_safe else f"{row.cell} (exploratory)"
            )
    return "; ".join(f"{verdict}: {', '.join(cells)}" for verdict, cells in by_verdict.items()) or "-"


def _told(one: Progress) -> Mapping[str, Any]:
    return {
        "name": one.name,
        "state": one.state,
        "pairs": one.pairs,
        "done": one.done,
        "problem": one.problem,
        "cells": [
            {
                "cell": cell.cell,
                "state": cell.state,
                "pairs": cell.pairs,
                "done": cell.done,
                "arms": [
                    {"arm": arm.arm, "requests": arm.requests, "errors": arm.errors, "retries": arm.retries}
                    for arm in cell.arms
                ],
            }
            for cell in one.cells
        ],
    }
