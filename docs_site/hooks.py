"""What the documentation site takes from outside `docs`: pages of the repository's other folders, and their links.

A page keeps the links that it has in the repository. One to another page of the site leads there; one to a file or a
folder that is none becomes its name, since the site stands without the repository; one to nothing stops the build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs"

PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "deploy/README.md": "deploy.md",
    "matrices/suites/README.md": "suites-format.md",
    "runtime_svc/checkpoints/treni-tiny/README.md": "treni-tiny.md",
    "examples/plugin/README.md": "examples/plugin.md",
    "examples/hosts/README.md": "examples/hosts.md",
    "examples/matrix-h200/README.md": "examples/matrix-h200.md",
    "examples/matrix-h200/run/summary.md": "examples/matrix-h200-report.md",
    "examples/matrix-h200-split/README.md": "examples/matrix-h200-split.md",
    "examples/matrix-h200-split/run/summary.md": "examples/matrix-h200-split-report.md",
}
"""Pages from outside `docs`: where each is in the repository, and where on the site."""

_ON_SITE = (".md", ".png", ".svg")
"""What of `docs` the site has."""

HOW_TO = "how-to"
_SECTION = re.compile(r"^## (Add .+|Change .+|From .+|Plant .+)$", re.MULTILINE)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """Puts the pages that are found, rather than named, into the navigation where its placeholders are."""
    found: dict[str, list[Any]] = {
        "adr/": [f"adr/{path.name}" for path in sorted((ROOT / DOCS / "adr").glob("*.md"))],
        f"{HOW_TO}/": [{title: uri} for title, uri, _ in _how_tos()],
    }
    config.nav = [_filled(item, found) for item in config.nav]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages from outside `docs`."""
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    for _, uri, text in _how_tos():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Makes the page's links those of the site, code aside."""
    source = _source_of(page.file.src_uri)
    parts = _FENCE.split(markdown)
    return "".join(
        part if place % 2 else _LINK.sub(lambda found: _link(found, source, page.file.src_uri), part)
        for place, part in enumerate(parts)
    )


def _filled(item: Any, found: dict[str, list[Any]]) -> Any:
    """An entry of the navigation, each placeholder in it as the entries that were found."""
    if isinstance(item, dict):
        return {
            title: found[inner]
            if isinstance(inner, str) and inner in found
            else [_filled(one, found) for one in inner]
            if isinstance(inner, list)
            else inner
            for title, inner in item.items()
        }
    return item


@cache
def _how_tos() -> tuple[tuple[str, str, str], ...]:
    """Title, place on the site and text of each how-to: the sections of CONTRIBUTING.md that say how."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    heads = list(re.finditer(r"^## .+$", text, re.MULTILINE))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return tuple(
        (
            title[1],
            f"{HOW_TO}/{re.sub(r'[^a-z0-9]+', '-', title[1].lower()).strip('-')}.md",
            text[head.start() + 1 : end],
        )
        for head, end in zip(heads, ends, strict=True)
        if (title := _SECTION.match(head[0])) is not None
    )


def _source_of(uri: str) -> str:
    """Where the page's text stands in the repository."""
    if uri.startswith(f"{HOW_TO}/"):
        return "CONTRIBUTING.md"
    return next((source for source, page in PAGES.items() if page == uri), f"{DOCS}/{uri}")


def _link(found: re.Match[str], source: str, uri: str) -> str:
    target, text = found["target"], found["text"]
    path, _, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target) or not path:
        return found[0]
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    for place in _places(wanted):
        relative = posixpath.relpath(place, posixpath.dirname(uri) or ".")
        return f"{found['image']}[{text}]({relative}{f'#{anchor}' if anchor else ''})"
    if not (ROOT / wanted).exists():
        raise PluginError(f"{source}: the link to {target} leads nowhere: there is no {wanted}")
    return text if text.strip("`") == wanted else f"{text} (`{wanted}` in the repository)"


def _places(wanted: str) -> Iterator[str]:
    """Where on the site the file is, or the page that speaks for the folder."""
    if wanted in PAGES:
        yield PAGES[wanted]
    elif f"{wanted}/README.md" in PAGES:
        yield PAGES[f"{wanted}/README.md"]
    elif wanted.startswith(f"{DOCS}/") and wanted.endswith(_ON_SITE) and (ROOT / wanted).is_file():
        yield wanted.removeprefix(f"{DOCS}/")
    elif (ROOT / wanted / "README.md").is_file() and wanted.startswith(f"{DOCS}/"):
        yield f"{wanted.removeprefix(f'{DOCS}/')}/README.md"
