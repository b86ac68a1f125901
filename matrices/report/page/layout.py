"""What every page of the project has in common: its frame, its style, and what a browser lets it do."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

import jinja2
from markupsafe import Markup


def templates(*more: tuple[str, str]) -> jinja2.Environment:
    """The templates of this package, and of further ones as (package, folder); whatever they are given is escaped."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(*place) for place in (("matrices.report", "page"), *more)]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def style() -> Markup:
    """The style of every page, light and dark."""
    return _asset("report.css")


def sorting() -> Markup:
    """The script that sorts tables."""
    return _asset("report.js")


def policy(script: str, *, asks_again: bool = False) -> str:
    """What a browser is to let a page do: run this one script, and reach nothing; with `asks_again` its own server."""
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    reached = "; connect-src 'self'" if asks_again else ""
    return (
        f"default-src 'none'; script-src 'sha256-{known}'; style-src 'unsafe-inline'{reached}; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> Markup:
    return Markup(files("matrices.report.page").joinpath(name).read_text(encoding="utf-8"))
