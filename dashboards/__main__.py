"""`python -m dashboards`: writes every dashboard into `dashboards/json`."""

from __future__ import annotations

from pathlib import Path

from dashboards.boards import BOARDS
from dashboards.build import to_json

JSON = Path(__file__).with_name("json")


def main() -> None:
    """Writes the files, and takes away those of dashboards that there are no more."""
    JSON.mkdir(exist_ok=True)
    written = {JSON / f"{board.uid}.json": to_json(board) for board in BOARDS}
    for old in set(JSON.glob("*.json")) - set(written):
        old.unlink()
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
