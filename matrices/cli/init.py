"""`treni-route init`: a folder with a campaign of one's own, which runs as it is."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from treni import entry
from treni.errors import invalid_argument
from treni.storage import writing

SCHEMAS = ("campaign", "profile", "suite")
"""The schemas that the folder's files name, by which editors check them and say what each key means."""

_EPILOG = """\b
Example:
  treni-route init my-agent
  treni-route matrix my-agent/campaign.toml --dry-run
  treni-route matrix my-agent/campaign.toml

\b
docs/your-first-campaign.md goes on from there. Exit status: 0 the folder is there; 1 it could not be written; 2 usage,
or it is there already and not empty."""


@entry.command(epilog=_EPILOG)
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make FOLDER with a campaign, a profile, tasks and a tool to start from, with comments that say how to go on.

    FOLDER must not exist, or be empty: nothing is overwritten.
    """
    _make_empty(folder)
    for name, data in _files().items():
        path = folder / name
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
        click.echo(str(path))
    entry.note(f"run it with: treni-route matrix {folder / 'campaign.toml'}")


def _make_empty(folder: Path) -> None:
    """Makes the folder, unless it is there and empty. Raises INVALID_ARGUMENT for another, as `writing` does."""
    with writing(folder):
        if folder.is_dir() and any(folder.iterdir()):
            raise invalid_argument(
                "folder_not_empty",
                expected=f"{folder} to be a new folder, or an empty one",
                got="one with files in it",
                todo="name another: nothing is overwritten",
            )
        folder.mkdir(parents=True, exist_ok=True)


def _files() -> dict[str, bytes]:
    """The files by their path in the folder."""
    package = resources.files("matrices")
    names = ("campaign.toml", "flaky.toml", "tasks.jsonl", "tool.py")
    schemas = [f"schemas/{name}.schema.json" for name in SCHEMAS]
    found = {name: (package / "starter" / name).read_bytes() for name in names}
    return found | {name: (package / name).read_bytes() for name in schemas}
