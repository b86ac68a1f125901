"""Single calls of the notes tool and of the ledger. Notes and accounts are drawn, not the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime_svc.training.dialogue import Step
from runtime_svc.training.phrasing import phrasings
from runtime_svc.training.real_tools import EMPTY, NOTES, Single, ledger_answer, record
from runtime_svc.training.vocabulary import Draw

SEARCH = phrasings("notes/search", """
what do my notes say about {topic}?
search my notes for {topic}
~ find the note about {topic}
look in the notes for {topic}
what is in my notes about {topic}?
check my notes for {topic}
is there a note about {topic}?
~ what did I note about {topic}?
look up {topic} in my notes
find my note on {topic}
do my notes mention {topic}?
read me the note about {topic}
~ search the notes for {topic}
what does the note about {topic} say?
look through my notes for {topic}
show me the note about {topic}
find {topic} in the notes
~ tell me what my notes say about {topic}
tell me what I noted about {topic}
did I note something about {topic}?
what did my notes say about {topic}?
""")  # fmt: skip
SEARCH_MANY = phrasings("notes/many", """
list at most {n} notes about {topic}
which notes mention {topic}, at most {n} of them?
~ name up to {n} notes about {topic}
name at most {n} notes about {topic}
show at most {n} notes on {topic}
which notes are about {topic}? Limit it to {n}
list up to {n} notes that mention {topic}
~ give me the best {n} notes for {topic}
find up to {n} notes about {topic}
search my notes for {topic} and list at most {n}
list the best {n} notes on {topic}
give me up to {n} notes about {topic}
tell me the best {n} notes about {topic}
give me at most {n} notes on {topic}
""")  # fmt: skip
_RECORD = phrasings("ledger/record", """
record {amount} for {account}
record {amount} in {account}
~ add {amount} to the {account} account
book {amount} on {account}
book {amount} to {account}
put {amount} into the ledger under {account}
enter {amount} in the ledger for {account}
~ append {amount} to the ledger for {account}
note {amount} in the ledger under {account}
write {amount} to the {account} account
log {amount} under {account} in the ledger
add a ledger entry of {amount} for {account}
~ make a ledger entry: {account}, {amount}
put {amount} on the {account} account
record an entry of {amount} in the account {account}
in the ledger, record {amount} for {account}
enter {amount} under {account}
~ add {amount} to {account} in the ledger
book an entry for {account} with the amount {amount}
append an entry of {amount} for {account} to the ledger
make an entry of {amount} in the ledger for {account}
append {amount} to the {account} account
[make|write] a ledger entry of {amount} under {account}
write a ledger entry: {amount}, {account}
make an entry for {account}: {amount}
[book|record] this in the ledger: {account}, {amount}
[write|put] this into the ledger: {amount} for {account}
make a new ledger entry for {account}, {amount}
[enter|log|note] this for {account}: {amount}
""")  # fmt: skip

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
)
_NOTE_TEXTS = (
    "The {t} [costs|is worth] {n}[| this year| until {month}].",
    "{name} [paid|owes|wants] {n} for the {t}[|; {name} knows|, {m} is left].",
    "[Water|Feed|Move|Clean|Sell|Paint|Check] the {t} on {day}.",
    "The {t} [opens|closes|starts] at {clock}[| on {day}|; {name} has the key].",
    "{name} will [bring|fix|collect|sell] the {t} in {month}.",
    "{T} number {n} from {name} is still [open|unpaid|missing]; the total is {m}.",
    "The {t} [is|stands|lies] [behind|under|near] the {w} {w}[| in {name}|, says {name}].",
    "[Return|Bring|Send] the {t} to {name} before {d} {month}; it costs {n} {w}s.",
    "{T} {w}: {n} grams of {w}, {m} grams of {w}, {d} minutes at {n} degrees.",
    "{name} the {t} gets half a {w} each morning until the {d}th.",
    "The {t} with {name} is {w} {n} and ends in {month}.",
    "{T} {w} moves to the {w} on {name} Lane from {month}; {name} conducts.",
    "Doctor {name} moved the {t} to {d} {month} at {clock}.",
    "The {t} is called {name} and its [code|password] is {w}-{n}.",
    "{w} and {w} for {d} need {n} {w}s, one {t} and {name}.",
    "The {t} to {name} leaves from {w} {d} at {clock}.",
    "{name} teaches {t} on {day}s at {clock} and charges {n} a {w}.",
    "The {t} {w} [jams|fails|leaks] unless {w} {d} is closed first.",
)
"""Forms of notes in training. {t} is the topic; the real notes of `tools_svc` are never used."""


def note_text(draw: Draw, topic: str) -> str:
    """The text of a note that mentions `topic`."""
    text = draw.pick(_NOTE_TEXTS)
    while "[" in text:
        start = text.index("[")
        end = text.index("]", start)
        text = text[:start] + draw.pick(text[start + 1 : end].split("|")) + text[end + 1 :]
    makers: dict[str, Callable[[], object]] = {
        "{t}": lambda: topic,
        "{T}": lambda: topic[:1].upper() + topic[1:],
        "{n}": lambda: draw.integer(2, 99999),
        "{m}": lambda: draw.integer(2, 9999),
        "{d}": lambda: draw.below(2, 28),
        "{w}": draw.word,
        "{name}": draw.name,
        "{day}": lambda: draw.pick(_DAYS),
        "{month}": lambda: draw.pick(_MONTHS),
        "{clock}": draw.clock,
    }
    for mark, make in makers.items():
        while mark in text:
            text = text.replace(mark, str(make()), 1)
    return text


def topic_of(draw: Draw) -> str:
    """Words to search for: one, or one time in three two."""
    return " ".join(draw.words(2 if draw.chance(0.3) else 1))


def search(query: str, hits: list[tuple[str, str]], limit: int | None = None) -> Step:
    """The notes tool's call; `hits` are pairs of name and text."""
    arguments: dict[str, Any] = {"query": query} if limit is None else {"query": query, "limit": limit}
    found = [{"note": note, "text": text} for note, text in hits]
    return Step(name=NOTES, arguments=arguments, result={"hits": found})


def note_answer(note: str, text: str) -> str:
    """The final answer for the best match."""
    return f"Note {note}: {text}"


def notes(draw: Draw) -> Single:
    """One search that reports the best match, or that finds nothing."""
    topic = topic_of(draw)
    prompt = SEARCH.say(draw, topic=topic)
    if draw.chance(0.15):
        return prompt, (search(topic, []),), EMPTY
    note = topic.split()[0] if draw.chance(0.6) else draw.word()
    text = note_text(draw, topic)
    return prompt, (search(topic, [(note, text)]),), note_answer(note, text)


def notes_many(draw: Draw) -> Single:
    """One search with a limit that reports the names of the notes."""
    topic, limit = topic_of(draw), draw.below(1, 5)
    names = draw.words(draw.below(1, limit)) if draw.chance(0.9) else []
    hits = [(name, note_text(draw, topic)) for name in names]
    answer = f"Notes: {', '.join(names)}." if names else EMPTY
    return SEARCH_MANY.say(draw, topic=topic, n=limit), (search(topic, hits, limit),), answer


def ask_record(draw: Draw, account: str, amount: int) -> str:
    """A prompt for one ledger entry."""
    return _RECORD.say(draw, account=account, amount=amount)


def ledger(draw: Draw) -> Single:
    """One ledger entry."""
    account = draw.word()
    amount = -draw.integer(1, 99999) if draw.chance(0.1) else draw.integer(1, 999999)
    return ask_record(draw, account, amount), (record(account, amount),), ledger_answer(account, amount)
