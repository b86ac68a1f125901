"""Phrasings: templates with alternatives and fields, a fifth of each family's held out.

A held-out template is a new arrangement of words that the family's other templates have: a model that has read
nothing else cannot know what a new word means.

A template is text with `[a|b]` (one of them is chosen) and `{field}`. One that ends with "?" is a question, one
that starts with "=" stands as it is, any other is an imperative without its full stop; questions and imperatives
are put into a random frame ("Could you ...?").
"""

# ruff: noqa: SIM905 - word lists read better as text
from __future__ import annotations

import re
from dataclasses import dataclass

from runtime_svc.training.vocabulary import Draw

_IMPERATIVE = (
    "{I}.", "{I}.", "{I}.", "Please {i}.", "Please {i}.", "Could you {i}?", "Can you {i}?", "I need you to {i}.",
    "I would like you to {i}.", "{I}, please.", "Hey, {i}.", "Would you {i}?", "Kindly {i}.", "Now {i}.",
    "Will you {i} for me?", "Do this: {i}.", "My request: {i}.", "I want you to {i}.", "Hello! {I}.",
    "Can you please {i}?", "Next, {i}.", "{I} for me.", "Go on and {i}.", "Let us {i}.", "Task: {i}.",
)  # fmt: skip
_IMPERATIVE_HELD = ("Be so kind and {i}.", "Might you {i}?", "For today, {i}.", "Your job is to {i}.")
_QUESTION = (
    "{Q}", "{Q}", "{Q}", "{Q}", "Quick question: {q}", "Tell me: {q}", "Please tell me: {q}", "Hi! {Q}",
    "I wonder: {q}", "Say, {q}", "{Q} Thanks.", "Hello, {q}", "One thing: {q}", "Do you know: {q}", "So, {q}",
    "Please answer: {q}", "Question: {q}", "I have a question. {Q}",
)  # fmt: skip
_OPENERS = tuple(
    """so now today then well just here there kind right quick first next again once also still soon maybe back ahead
    over late early fine sure yes okay look listen see and but or as if when after before with without at by from
    day week time work job help way thing things need want wish ask like make let might would should must can""".split()
)
"""Words of which an opener is made that means nothing: a frame that nobody has written down is still a frame."""
_OPENED = 0.15
_QUESTION_HELD = ("Here is what I ask: {q}", "Let me ask: {q}", "Well then, {q}")

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrasings:
    """The templates of one family, in two disjoint lists."""

    family: str
    seen: tuple[str, ...]
    held: tuple[str, ...]

    def say(self, draw: Draw, **fields: object) -> str:
        """One prompt: a template of the draw's part, expanded, filled in and framed."""
        return frame(draw, self.clause(draw, **fields))

    def clause(self, draw: Draw, **fields: object) -> str:
        """One template of the draw's part, expanded and filled in, without a frame."""
        template = draw.pick(self.held if draw.part.phrasings else self.seen)
        return _expand(draw, template).format(**fields)


def phrasings(family: str, text: str) -> Phrasings:
    """Splits the lines of `text` into templates; those that begin with "~ " are held out."""
    templates = [line.strip() for line in text.strip().splitlines()]
    seen = tuple(t for t in templates if not t.startswith("~ "))
    held = tuple(t.removeprefix("~ ") for t in templates if t.startswith("~ "))
    if not held or set(seen) & set(held):
        raise ValueError(f"{family}: expected templates of both kinds, all different, got {templates}")
    unknown = {word for template in held for word in words(template)} - {w for t in seen for w in words(t)}
    if unknown:
        raise ValueError(
            f"{family}: expected held-out templates of words that the others have, got {unknown}"
        )
    return Phrasings(family=family, seen=seen, held=held)


def words(template: str) -> list[str]:
    """The fixed words of a template, in lower case."""
    return re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", template.lower()))


def _expand(draw: Draw, template: str) -> str:
    if "[" not in template:
        return template
    return _CHOICE.sub(lambda match: draw.pick(match.group(1).split("|")), template)


def frame(draw: Draw, text: str) -> str:
    """`text` as a whole message: framed unless it starts with "=", capitalised, with its punctuation."""
    if text.startswith("="):
        return text[1:]
    held = draw.part.phrasings and draw.chance(0.2)
    if draw.part.openers and draw.chance(_OPENED):
        opener = " ".join(draw.pick(_OPENERS) for _ in range(draw.below(1, 4)))
        return capitalised(opener) + draw.pick((", ", ": ", " ")) + text + ("" if text.endswith("?") else ".")
    if text.endswith("?"):
        pattern = draw.pick(_QUESTION_HELD if held else _QUESTION)
        return pattern.replace("{Q}", capitalised(text)).replace("{q}", text)
    pattern = draw.pick(_IMPERATIVE_HELD if held else _IMPERATIVE)
    return pattern.replace("{I}", capitalised(text)).replace("{i}", text)


def capitalised(text: str) -> str:
    """`text` with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]
