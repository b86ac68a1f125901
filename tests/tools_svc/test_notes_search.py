from __future__ import annotations

import unicodedata
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools_svc.notes_search import MAX_WORDS, NotesSearch
from tools_svc.protocol import CallInfo
from treni.errors import TreniError

INFO = CallInfo(run_id="r", task_id="t", attempt=0, idempotency_key="")
NOTES = resources.files("tools_svc") / "data" / "notes"
TEXTS = {file.name.removesuffix(".txt"): file.read_text(encoding="utf-8").strip() for file in NOTES.iterdir()}
SEARCH = NotesSearch(NOTES)


def hits(query: str, **limit: int) -> list[tuple[str, str]]:
    result = SEARCH.run({"query": query, **limit}, INFO).result
    return [(hit["note"], hit["text"]) for hit in result["hits"]]


def test_the_example() -> None:
    assert hits("ferns") == [("garden", "Water the ferns on Friday.")]


@pytest.mark.parametrize("note", sorted(TEXTS))
def test_each_note_is_found_first_by_its_own_words(note: str) -> None:
    assert hits(TEXTS[note]) == [(note, TEXTS[note])]
    assert hits(note)[0][0] == note


def test_stems_and_case() -> None:
    assert hits("FERN")[0][0] == "garden"
    assert hits("telescopes")[0][0] == "telescope"


def test_limit_is_one_unless_given() -> None:
    assert len(hits("the")) == 1
    assert len(hits("the", limit=5)) == 5


def test_nothing_found_is_an_empty_list(call: Callable[..., Any]) -> None:
    for query in ("zeppelin", "", "   ", "!?", "_"):
        assert call("notes_search", query=query) == {"hits": []}


def test_equal_ranks_go_by_name(tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        (tmp_path / f"{name}.txt").write_text("one heron\n", encoding="utf-8")
    search = NotesSearch(tmp_path)
    result = search.run({"query": "heron", "limit": 3}, INFO).result
    assert [hit["note"] for hit in result["hits"]] == ["a", "b", "c"]
    search.close()


@pytest.mark.parametrize(
    "query",
    [
        'ferns" OR "x',
        "ferns NOT friday",
        "note:ferns",
        "text : ferns",
        "{note text}: ferns",
        "fern*",
        "^ferns",
        "NEAR(ferns friday, 2)",
        "ferns AND",
        "(ferns",
        "ferns)",
        "-ferns",
        "ferns' OR 1=1 --",
        "ferns\0friday",
        "ferns + friday",
    ],
)
def test_search_syntax_is_only_text(query: str) -> None:
    assert hits(query)[0][0] == "garden"


def test_operators_are_words() -> None:
    # As operators these would match every note with "the" but not "ferns", or fail to parse.
    assert ("garden", TEXTS["garden"]) in hits("the NOT ferns", limit=5)
    assert hits("AND")[0][1].lower().count(" and ") >= 1


@given(st.text(max_size=80))
def test_any_text_is_a_search(query: str) -> None:
    for _, text in hits(query, limit=5):
        assert text in TEXTS.values()


def test_too_many_words_are_refused(refusal: Callable[..., TreniError]) -> None:
    assert refusal("notes_search", query="x " * (MAX_WORDS + 1)).kind == "query_too_long"
    assert hits("heron " * MAX_WORDS)[0][0] == "wifi"


FOREIGN = {
    "tax": "Payer l'impôt avant le 15 mai.",
    "moto": "Le pot d'échappement de la moto, impo du jour.",
    "hindi": "हिन्दी की किताब अलमारी में है।",
    "river": "नदी का पानी",
    "turkish": "İstanbul toplantısı",
    "street": "Straße 5",
    "family": "👩\u200d👩\u200d👧 am Sonntag",
    "woman": "👩 am Montag",
}


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[[str], list[str]]:
    for number, (note, text) in enumerate(FOREIGN.items()):
        mark = "\ufeff" if number % 2 else ""
        (tmp_path / f"{note}.txt").write_text(mark + text, encoding="utf-8")
    search = NotesSearch(tmp_path)

    def find(query: str) -> list[str]:
        result = search.run({"query": query, "limit": 5}, INFO).result
        assert all(hit["text"] == " ".join(FOREIGN[hit["note"]].split()) for hit in result["hits"])
        return [hit["note"] for hit in result["hits"]]

    return find


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("query", "notes"),
    [
        ("impôt", ["tax"]),
        ("impot", ["tax"]),
        ("हिन्दी", ["hindi"]),
        ("किताब", ["hindi"]),
        ("न", []),
        ("istanbul", ["turkish"]),
        ("İSTANBUL", ["turkish"]),
        ("STRASSE", ["street"]),
        ("straße", ["street"]),
        ("👩", ["woman"]),
        ("👩\u200d👩\u200d👧", ["family"]),
        ("payer", ["tax"]),
    ],
)
def test_words_of_any_script_in_either_form(
    foreign: Callable[[str], list[str]], query: str, notes: list[str], form: Literal["NFC", "NFD"]
) -> None:
    assert foreign(unicodedata.normalize(form, query)) == notes
