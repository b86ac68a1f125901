"""The notes tool: ranked full-text search (SQLite FTS5) over a folder of short text files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any

from tools_svc.protocol import CallInfo, Tool, ToolEntry, ToolOutput, ToolsConfig, make_spec
from tools_svc.words import words
from treni.errors import invalid_argument
from treni.folding import nfc
from treni.v1.common_pb2 import ToolSpec

MAX_WORDS = 32
MAX_HITS = 5

SPEC = make_spec(
    name="notes_search",
    description="Searches the notes and returns the best matches.",
    properties={
        "query": {"type": "string", "description": "words to look for"},
        "limit": {
            "type": "integer",
            "description": "how many matches to return, 1 if absent",
            "minimum": 1,
            "maximum": MAX_HITS,
        },
    },
    required=("query",),
)

# The index holds words that `words` has cut already: only white space separates them, and diacritics are optional.
_TABLE = (
    "CREATE VIRTUAL TABLE notes USING fts5(note_words, text_words, note UNINDEXED, text UNINDEXED,"
    """ tokenize = "porter unicode61 categories 'L* M* N* P* S* C*'")"""
)


class NotesSearch(Tool):
    """Searches names and texts, by word stem, best first. The index lives in memory."""

    def __init__(self, notes: Traversable) -> None:
        self._lock = threading.Lock()
        self._index = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._index.execute(_TABLE)
        rows = [
            (nfc(file.name.removesuffix(".txt")), " ".join(file.read_text(encoding="utf-8-sig").split()))
            for file in notes.iterdir()
            if file.name.endswith(".txt")
        ]
        self._index.executemany(
            "INSERT INTO notes VALUES (?, ?, ?, ?)",
            [(" ".join(words(note)), " ".join(words(text)), note, text) for note, text in sorted(rows)],
        )

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return SPEC

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """`{"hits": [{"note", "text"}, ...]}`: notes with any of the words, by BM25, equal ranks by name."""
        asked = words(arguments["query"])
        if len(asked) > MAX_WORDS:
            raise invalid_argument(
                "query_too_long",
                expected=f"at most {MAX_WORDS} words",
                got=f"{len(asked)} words",
                todo="look for fewer words",
            )
        if not asked:
            return ToolOutput(result={"hits": []})
        # In quotes a word is text to FTS5, never an operator, a column filter or a prefix search.
        expression = " OR ".join(f'"{word}"' for word in asked)
        with self._lock:
            rows = self._index.execute(
                "SELECT note, text FROM notes WHERE notes MATCH ? ORDER BY bm25(notes), note LIMIT ?",
                (expression, arguments.get("limit", 1)),
            ).fetchall()
        return ToolOutput(result={"hits": [{"note": note, "text": text} for note, text in rows]})

    def close(self) -> None:
        """Drops the index."""
        with self._lock:
            self._index.close()


def _build(config: ToolsConfig) -> Tool:
    return NotesSearch(config.data / "notes")


ENTRY = ToolEntry(spec=SPEC, build=_build)
