"""Tasks that the model answers by itself, whatever tools it is offered: each kind has one exact answer."""

from __future__ import annotations

from collections.abc import Callable

from runtime_svc.training import direct_phrases as phrases
from runtime_svc.training.phrasing import capitalised
from runtime_svc.training.vocabulary import Draw

Direct = tuple[str, str]
"""A prompt and its answer."""


def _greeting(draw: Draw) -> Direct:
    name = draw.name()
    return phrases.GREETING.say(draw, name=name), f"Hello {name}, how can I help?"


def _thanks(draw: Draw) -> Direct:
    return phrases.THANKS.say(draw), "You are welcome."


def _copy(draw: Draw) -> Direct:
    words = draw.words(draw.below(2, 5))
    if draw.chance(0.3):
        words.insert(draw.below(0, len(words)), str(draw.integer(0, 99999)))
    if draw.chance(0.3):
        words.insert(draw.below(0, len(words)), draw.name())
    text = " ".join(words)
    return capitalised(phrases.COPY.clause(draw, text=text)), text


def _spell(draw: Draw) -> Direct:
    word = next(w for w in iter(draw.word, "") if len(w) <= 7)
    return phrases.SPELL.say(draw, word=word), "-".join(word)


def _fact(draw: Draw) -> Direct:
    count = draw.below(1, 4) if draw.chance(0.85) else draw.below(5, 9)
    people = draw.names(count)
    names = [draw.pick(phrases.CITY_FIELDS) if draw.chance(0.15) else draw.field_word() for _ in range(2)]
    rows = []
    for person in people:
        name = draw.pick(names)
        value = draw.pick((draw.word, draw.code, lambda: str(draw.integer(0, 99999)), draw.name))()
        line = draw.pick(phrases.FACT_LINES).format(name=person, field=name, value=value)
        rows.append((person, name, value, line))
    person, name, value, _ = draw.pick(rows)
    facts = " ".join(line for *_, line in rows)
    question = phrases.FACT.say(draw, field=name, name=person)
    prompt = f"{facts} {question}" if draw.chance(0.8) else f"{question} {facts}"
    return prompt, f"The {name} of {person} is {value}."


def _number(draw: Draw) -> Direct:
    name, place = draw.names(2)
    n, things = draw.integer(2, 9999), draw.word() + "s"
    return phrases.NUMBER.say(draw, name=name, place=place, n=n, things=things), f"It is {n} {things}."


def _who(draw: Draw) -> Direct:
    name, other, place = draw.names(3)
    prompt = phrases.WHO.say(draw, name=name, other=other, place=place, thing=draw.word())
    return prompt, f"It is {name}."


def _pair_of_numbers(draw: Draw) -> tuple[int, int]:
    if draw.chance(0.5):
        low, high = draw.pick(((1, 9), (10, 99), (100, 999), (1000, 9999)))
        a, b = draw.integers(2, low, high)
        return a, b
    a, b = draw.integers(2, 1, 9999)
    return a, b


def _larger(draw: Draw) -> Direct:
    a, b = _pair_of_numbers(draw)
    return phrases.LARGER.say(draw, a=a, b=b), f"{max(a, b)} is larger."


def _smaller(draw: Draw) -> Direct:
    a, b = _pair_of_numbers(draw)
    return phrases.SMALLER.say(draw, a=a, b=b), f"{min(a, b)} is smaller."


def _yesno(draw: Draw) -> Direct:
    thing, state = draw.word(), draw.pick(phrases.STATES)
    asked = state if draw.chance(0.5) else draw.pick([s for s in phrases.STATES if s != state])
    prompt = phrases.YESNO.say(draw, thing=thing, state=state, asked=asked, name=draw.name())
    return prompt, f"Yes, the {thing} is {state}." if asked == state else f"No, the {thing} is {state}."


def _listed(draw: Draw, items: list[str]) -> str:
    if draw.chance(0.2) and len(items) > 1:
        return ", ".join(items[:-1]) + " and " + items[-1]
    return ", ".join(items)


def _member(draw: Draw) -> Direct:
    *items, other = draw.words(draw.below(3, 6))
    word = draw.pick(items) if draw.chance(0.5) else other
    prompt = phrases.MEMBER.say(draw, word=word, items=_listed(draw, items))
    return prompt, f"Yes, {word} is in the list." if word in items else f"No, {word} is not in the list."


def _position(draw: Draw) -> Direct:
    items, nth = draw.words(draw.below(3, 6)), draw.pick(phrases.NTH)
    word = items[{"first": 0, "second": 1, "third": 2, "last": -1}[nth]]
    return phrases.POSITION.say(draw, nth=nth, items=_listed(draw, items)), f"The {nth} word is {word}."


def _sort(draw: Draw) -> Direct:
    numbers = draw.integers(draw.below(2, 4), 0, 99)
    prompt = phrases.SORT.say(draw, items=_listed(draw, [str(n) for n in numbers]))
    return prompt, ", ".join(str(n) for n in sorted(numbers))


def _reverse(draw: Draw) -> Direct:
    items = draw.words(draw.below(2, 5))
    return phrases.REVERSE.say(draw, items=_listed(draw, items)), ", ".join(reversed(items))


def _count(draw: Draw) -> Direct:
    items = draw.words(draw.below(2, 6))
    return phrases.COUNT.say(draw, items=_listed(draw, items)), f"There are {len(items)} words."


def _parity(draw: Draw) -> Direct:
    n = draw.integer(1, 99999)
    return phrases.PARITY.say(draw, n=n), f"{n} is {'odd' if n % 2 else 'even'}."


def _letter(draw: Draw) -> Direct:
    word = draw.word()
    return phrases.LETTER.say(draw, word=word), f"It starts with {word[0]}."


def _join(draw: Draw) -> Direct:
    a, b = draw.words(2)
    return phrases.JOIN.say(draw, a=a, b=b), f"{a}-{b}"


KINDS: dict[str, Callable[[Draw], Direct]] = {
    "greeting": _greeting,
    "thanks": _thanks,
    "copy": _copy,
    "spell": _spell,
    "fact": _fact,
    "number": _number,
    "who": _who,
    "larger": _larger,
    "smaller": _smaller,
    "yesno": _yesno,
    "member": _member,
    "position": _position,
    "sort": _sort,
    "reverse": _reverse,
    "count": _count,
    "parity": _parity,
    "letter": _letter,
    "join": _join,
}
"""Every kind of direct task, by name."""
