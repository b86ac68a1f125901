"""What the bundled suites ask: prompts, the calls and the answers that are right, over the real tools' own data."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from importlib import resources
from typing import Any

from runtime_svc.training import (
    calculations,
    chains,
    cities,
    notes_and_ledger,
    real_tools,
    repairs,
)
from runtime_svc.training.arithmetic import apply, is_plain
from runtime_svc.training.dialogue import Step
from runtime_svc.training.real_tools import CALCULATOR, FACTS, LEDGER, NOTES
from runtime_svc.training.vocabulary import Draw, typo
from tools_svc.registry import Registry
from treni.errors import TreniError
from treni.v1.tools_pb2 import CallToolRequest


class RealTools:
    """The tools of `tools_svc` with their own data and a ledger that is thrown away."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        data = resources.files("tools_svc") / "data"
        with (data / "cities.csv").open("r", encoding="utf-8") as file:
            self.cities = list(csv.DictReader(file))
        self.accounts = (data / "accounts.txt").read_text(encoding="utf-8").split()
        self.notes = sorted(f.name.removesuffix(".txt") for f in (data / "notes").iterdir())

    def respond(self, name: str, arguments_json: str) -> str:
        """The result, or the error, as the loop gives it to the model."""
        try:
            return self._registry.call(CallToolRequest(name=name, arguments_json=arguments_json)).result_json
        except TreniError as error:
            return json.dumps({"error": str(error)}, ensure_ascii=False)

    def result(self, step: Step) -> dict[str, Any]:
        """What the real tool answers to a step's call."""
        value: dict[str, Any] = json.loads(
            self.respond(step.name, json.dumps(step.arguments, ensure_ascii=False))
        )
        return value

    def query(self, text: str) -> list[list[Any]]:
        """The rows of a query."""
        rows: list[list[Any]] = self.result(real_tools.select(text, [], []))["rows"]
        return rows


Made = tuple[str, list[Step], str]
"""A prompt, the calls in order and the answer."""


def _calculator(draw: Draw, tools: RealTools) -> Made:
    prompt, steps, answer = calculations.calculator(draw)
    return prompt, list(steps), answer


def _facts(draw: Draw, tools: RealTools) -> Made:
    return draw.pick((_attribute, _attribute, _attribute, _extreme, _listed, _counted, _total))(draw, tools)


def _attribute(draw: Draw, tools: RealTools) -> Made:
    column, city = draw.pick(("population", "country", "founded", "river")), draw.pick(tools.cities)["name"]
    query = cities.attribute_query(column, city)
    answer = cities.attribute_answer(column, tools.query(query)[0][0])
    return cities.ask_attribute(draw, column, city), [real_tools.select(query, [], [])], answer


def _country(draw: Draw, tools: RealTools, least: int = 1) -> str:
    countries = Counter(row["country"] for row in tools.cities)
    return draw.pick([country for country, count in countries.items() if least <= count <= 4])


def _listed(draw: Draw, tools: RealTools) -> Made:
    country = _country(draw, tools)
    query = cities.list_country_query(country)
    answer = cities.names_answer([row[0] for row in tools.query(query)])
    return cities.LIST_COUNTRY.say(draw, country=country), [real_tools.select(query, [], [])], answer


def _counted(draw: Draw, tools: RealTools) -> Made:
    country = _country(draw, tools)
    query = cities.count_query(f"country = '{country}'")
    answer = cities.count_answer(tools.query(query)[0][0])
    return cities.COUNT_COUNTRY.say(draw, country=country), [real_tools.select(query, [], [])], answer


def _extreme(draw: Draw, tools: RealTools) -> Made:
    column, order, ask = draw.pick(cities.EXTREMES)
    country = _country(draw, tools, least=2)
    query = f"SELECT name FROM cities WHERE country = '{country}' ORDER BY {column} {order} LIMIT 1"
    answer = cities.names_answer([tools.query(query)[0][0]])
    return ask.say(draw, where=f" in {country}"), [real_tools.select(query, [], [])], answer


def _total(draw: Draw, tools: RealTools) -> Made:
    function, label, ask = draw.pick(cities.TOTALS)
    country = _country(draw, tools, least=2)
    query = f"SELECT {function}(population) FROM cities WHERE country = '{country}'"
    answer = f"The {label} population is {tools.query(query)[0][0]}."
    return ask.say(draw, where=f" in {country}"), [real_tools.select(query, [], [])], answer


def _notes(draw: Draw, tools: RealTools) -> Made:
    topic = draw.pick(tools.notes)
    step = notes_and_ledger.search(topic, [])
    hit = tools.result(step)["hits"][0]
    return (
        notes_and_ledger.SEARCH.say(draw, topic=topic),
        [step],
        notes_and_ledger.note_answer(hit["note"], hit["text"]),
    )


def _ledger(draw: Draw, tools: RealTools) -> Made:
    account, amount = draw.pick(tools.accounts), draw.integer(10, 9999)
    prompt = notes_and_ledger.ask_record(draw, account, amount)
    return prompt, [real_tools.record(account, amount)], real_tools.ledger_answer(account, amount)


def _source(draw: Draw, tools: RealTools) -> tuple[str, list[Step], int, str]:
    kind = draw.pick(("fact", "fact", "facts", "facts", "expression", "note"))
    if kind == "expression":
        _, (step,), _ = calculations.calculator(draw)
        value = tools.result(step)["value"]
        text = chains.SOURCE_SUM.clause(draw, e=step.arguments["expression"])
        return (text, [step], value, kind) if isinstance(value, int) else _source(draw, tools)
    if kind == "note":
        topic = draw.pick(tools.notes)
        step = notes_and_ledger.search(topic, [])
        number = chains.first_number(tools.result(step)["hits"][0]["text"])
        if number is None:
            return _source(draw, tools)
        return chains.SOURCE_NOTE.clause(draw, topic=topic), [step], number, kind
    column = draw.pick(("population", "population", "founded"))
    field = "founding year" if column == "founded" else column
    one, other = (
        row["name"] for row in draw.rng.sample([r for r in tools.cities if int(r["founded"]) > 0], 2)
    )
    steps = [real_tools.select(cities.attribute_query(column, city), [], []) for city in (one, other)]
    values = [int(tools.result(step)["rows"][0][0]) for step in steps]
    if kind == "fact":
        return chains.SOURCE_FACT.clause(draw, field=field, city=one), steps[:1], values[0], kind
    operator = draw.pick("+-")
    result = apply(operator, Fraction(values[0]), Fraction(values[1]))
    assert result is not None
    steps.append(real_tools.calculate(chains.difference_text(operator, *values), result))
    return chains.BOTH[operator].clause(draw, field=field, a=one, b=other), steps, int(result), kind


def _chain(draw: Draw, tools: RealTools) -> Made:
    clause, steps, value, _ = _source(draw, tools)
    clauses, answer = [clause], real_tools.calculator_answer(value)
    sink = draw.chance(0.6)
    if draw.chance(0.6):
        operator, n = draw.pick("+-*"), draw.integer(2, 99)
        result = apply(operator, Fraction(value), Fraction(n))
        assert result is not None
        if is_plain(result):
            clauses.append(chains.MIDDLE[operator].clause(draw, n=n))
            steps.append(real_tools.calculate(f"{value} {operator} {n}", result))
            answer, value = real_tools.calculator_answer(result), int(result)
    if sink and abs(value) < 10**9:
        account = draw.pick(tools.accounts)
        clauses.append(chains.SINK.clause(draw, account=account))
        steps.append(real_tools.record(account, value))
        answer = real_tools.ledger_answer(account, value)
    if not 2 <= len(steps) <= 4:
        return _chain(draw, tools)
    return chains.joined(draw, clauses), steps, answer


def _two_entries(draw: Draw, tools: RealTools) -> Made:
    x, y = draw.rng.sample(tools.accounts, 2)
    a, b = draw.integers(2, 10, 9999)
    prompt = chains.TWICE.say(draw, a=a, b=b, x=x, y=y)
    return prompt, [real_tools.record(x, a), real_tools.record(y, b)], f"Recorded {a} in {x} and {b} in {y}."


def _ledger_repair(draw: Draw, tools: RealTools) -> Made:
    account, amount = draw.pick(tools.accounts), draw.integer(10, 9999)
    wrong = typo(draw.rng, account)
    first = real_tools.record(wrong, amount)
    if f'did you mean "{account}"?' not in tools.result(first).get("error", ""):
        return _ledger_repair(draw, tools)
    prompt = notes_and_ledger.ask_record(draw, wrong, amount)
    return prompt, [first, real_tools.record(account, amount)], real_tools.ledger_answer(account, amount)


def _column_repair(draw: Draw, tools: RealTools) -> Made:
    column, city = draw.pick(("population", "country", "founded", "river")), draw.pick(tools.cities)["name"]
    wrong = typo(draw.rng, column)
    first = real_tools.select(cities.attribute_query(wrong, city), [], [])
    second = real_tools.select(cities.attribute_query(column, city), [], [])
    if f'did you mean "{column}"?' not in tools.result(first).get("error", ""):
        return _column_repair(draw, tools)
    answer = cities.attribute_answer(column, tools.result(second)["rows"][0][0])
    return repairs.BY_COLUMN.say(draw, column=wrong, city=city), [first, second], answer


MAKERS: dict[str, Callable[[Draw, RealTools], Made]] = {
    CALCULATOR: _calculator,
    FACTS: _facts,
    NOTES: _notes,
    LEDGER: _ledger,
    "chain": _chain,
    "two_entries": _two_entries,
    "ledger_repair": _ledger_repair,
    "column_repair": _column_repair,
}
