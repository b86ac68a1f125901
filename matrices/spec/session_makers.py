"""What the suite `sessions` asks: several prompts in one conversation, of which some refer to what was said before.

The bundled model was trained on up to three unrelated exchanges under the same tools. That it takes "it" for the last
value of the conversation is nothing that it was taught, so that only those few ways to say so are used in which it
mostly does (suites/README.md has how often).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from matrices.spec.suite_makers import MAKERS, Made, RealTools
from runtime_svc.training import cities, direct, real_tools
from runtime_svc.training.arithmetic import apply
from runtime_svc.training.real_tools import CALCULATOR, FACTS, LEDGER, NOTES
from runtime_svc.training.vocabulary import Draw

Session = tuple[Made, ...]
"""Everything that the user says, each with the calls and the answer that are right."""

RECORD = ("Record it in {account}.", "Book it under {account}.")
RECORD_TOO = "Record it in {account} too."
MULTIPLY = "Multiply it by {factor}."
_LARGEST = 10**9


def _recorded(draw: Draw, tools: RealTools) -> Session:
    """A sum, and then its value into the ledger."""
    asked, value = _sum(draw, tools)
    return asked, _into_ledger(draw, tools, value)


def _recorded_twice(draw: Draw, tools: RealTools) -> Session:
    """An entry in the ledger, and then the same in another account."""
    asked = MAKERS[LEDGER](draw, tools)
    entry = asked[1][0].arguments
    other = draw.pick([account for account in tools.accounts if account != entry["account"]])
    step = real_tools.record(other, entry["amount"])
    again = RECORD_TOO.format(account=other), [step], real_tools.ledger_answer(other, entry["amount"])
    return asked, again


def _multiplied(draw: Draw, tools: RealTools) -> Session:
    """A number that a tool finds, its multiple, and then that into the ledger."""
    asked, value = draw.pick((_sum, _population))(draw, tools)
    factor = draw.integer(2, 99)
    product = apply("*", Fraction(value), Fraction(factor))
    assert product is not None
    if abs(product) >= _LARGEST:
        return _multiplied(draw, tools)
    step = real_tools.calculate(f"{value} * {factor}", product)
    multiple = MULTIPLY.format(factor=factor), [step], real_tools.calculator_answer(product)
    return asked, multiple, _into_ledger(draw, tools, int(product))


def _mixed(draw: Draw, tools: RealTools) -> Session:
    """Three or four prompts that have nothing to do with one another: some need a tool, one needs none."""
    families = [draw.pick((CALCULATOR, NOTES)), FACTS, draw.pick((LEDGER, "ledger_repair", "column_repair"))]
    made = [MAKERS[family](draw, tools) for family in families[draw.below(0, 1) :]]
    prompt, answer = direct.KINDS[draw.pick(tuple(direct.KINDS))](draw)
    made.append((prompt, [], answer))
    draw.rng.shuffle(made)
    return tuple(made)


def _sum(draw: Draw, tools: RealTools) -> tuple[Made, int]:
    """A sum whose value is a whole number, and the value."""
    asked = MAKERS[CALCULATOR](draw, tools)
    value = tools.result(asked[1][0])["value"]
    return (asked, value) if isinstance(value, int) and abs(value) < _LARGEST else _sum(draw, tools)


def _population(draw: Draw, tools: RealTools) -> tuple[Made, int]:
    """The population of a city, and its number."""
    city = draw.pick(tools.cities)["name"]
    step = real_tools.select(cities.attribute_query("population", city), [], [])
    value = tools.result(step)["rows"][0][0]
    answer = cities.attribute_answer("population", value)
    return (cities.ask_attribute(draw, "population", city), [step], answer), int(value)


def _into_ledger(draw: Draw, tools: RealTools, amount: int) -> Made:
    account = draw.pick(tools.accounts)
    prompt = draw.pick(RECORD).format(account=account)
    return prompt, [real_tools.record(account, amount)], real_tools.ledger_answer(account, amount)


SESSIONS: Mapping[str, Callable[[Draw, RealTools], Session]] = {
    "recorded": _recorded,
    "recorded_twice": _recorded_twice,
    "multiplied": _multiplied,
    "mixed": _mixed,
}
"""The kinds of session by the family of their tasks."""
