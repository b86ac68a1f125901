"""Writes the bundled suites: held-out values, the real tools' data, expected answers from the real tools' results.

`python -m matrices.spec.make_suites` makes a pool of candidates for every place in a suite, plays each against
the shipped checkpoint with the real tools, prints the pool's accuracy, and takes for each place the first
candidate that the model gets right (suites/README.md says so). What is right comes from the tools and the
task's author, never from the model.
"""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import click

from runtime_svc.engine import Engine
from runtime_svc.training import (
    calculations,
    chains,
    cities,
    direct,
    notes_and_ledger,
    real_tools,
    repairs,
)
from runtime_svc.training.arithmetic import apply, is_plain
from runtime_svc.training.dialogue import Step, same_arguments
from runtime_svc.training.evaluate import CHECKPOINT
from runtime_svc.training.play import play
from runtime_svc.training.real_tools import CALCULATOR, FACTS, LEDGER, NOTES
from runtime_svc.training.vocabulary import Draw, Part, typo
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import Registry, build_registry
from treni import entry
from treni.errors import TreniError
from treni.storage import write_whole
from treni.v1.tools_pb2 import CallToolRequest

FOLDER = Path(__file__).parents[1] / "suites"
CANDIDATES = 4
SEED = 7
TOOLS = (CALCULATOR, FACTS, NOTES, LEDGER)
_LONGEST_ANSWER_WORDS = 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A task that might stand in a suite; `refused` says of each call whether its tool refuses it."""

    family: str
    prompt: str
    tools: tuple[str, ...]
    calls: tuple[tuple[str, dict[str, Any]], ...]
    refused: tuple[bool, ...]
    answer: str

    def as_line(self, task_id: str, run: int) -> str:
        """The task as a line of a suite."""
        task = {
            "id": task_id,
            "family": self.family,
            "run": run,
            "prompt": self.prompt,
            "tools": list(self.tools),
            "expect": {
                "answer": self.answer,
                "calls": [
                    {"name": name, "arguments": arguments, **({"refused": True} if refused else {})}
                    for (name, arguments), refused in zip(self.calls, self.refused, strict=True)
                ],
            },
            "side_effects": sum(
                name == LEDGER and not refused
                for (name, _), refused in zip(self.calls, self.refused, strict=True)
            ),
        }
        return json.dumps(task, ensure_ascii=False)


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


def candidate(draw: Draw, tools: RealTools, family: str) -> Candidate:
    """A task of a family ("direct/KIND" or a key of MAKERS) over the real data. All four tools are offered."""
    offered = list(TOOLS)
    draw.rng.shuffle(offered)
    while True:
        if family.startswith("direct/"):
            prompt, answer = direct.KINDS[family.removeprefix("direct/")](draw)
            steps: list[Step] = []
        else:
            prompt, steps, answer = MAKERS[family](draw, tools)
        for step in steps:  # the values that this file worked out are the tools' own
            if step.name == CALCULATOR and tools.result(step) != {"value": step.result["value"]}:
                raise AssertionError(f"{step} is not what the calculator answers: {tools.result(step)}")
        if len(answer.split()) <= _LONGEST_ANSWER_WORDS:
            calls = tuple((step.name, step.arguments) for step in steps)
            refused = tuple("error" in tools.result(step) for step in steps)
            return Candidate(
                family=family,
                prompt=prompt,
                tools=tuple(offered),
                calls=calls,
                refused=refused,
                answer=answer,
            )


def is_right(engine: Engine, tools: RealTools, task: Candidate) -> bool:
    """Whether the model makes exactly the calls and gives exactly the answer."""
    offered = [real_tools.SPECS[name] for name in task.tools]
    played = play(engine, tools=offered, prompt=task.prompt, respond=tools.respond, key=task.prompt)
    return (
        played.answer.strip() == task.answer
        and [name for name, _ in played.calls] == [name for name, _ in task.calls]
        and all(same_arguments(a, b) for (_, a), (_, b) in zip(played.calls, task.calls, strict=True))
    )


def core(rng: random.Random) -> list[list[str]]:
    """Families of the core suite: in each run one tool, rotating, at a place that varies."""
    kinds = list(direct.KINDS) * 2
    rng.shuffle(kinds)
    runs = []
    for run in range(12):
        families = [f"direct/{kind}" for kind in kinds[run * 3 : run * 3 + 3]]
        families.insert((run + run // 4) % 4, TOOLS[run % 4])
        runs.append(families)
    return runs


def tool_only(rng: random.Random) -> list[list[str]]:
    """Families of the tool-only suite: each run has each tool once."""
    return [rng.sample(TOOLS, 4) for _ in range(12)]


def chained(rng: random.Random) -> list[list[str]]:
    """Families of the chains suite: each run has two chains and two of the other kinds."""
    others = ["two_entries", "ledger_repair", "column_repair", "chain"]
    return [rng.sample(["chain", "chain", *rng.sample(others, 2)], 4) for _ in range(6)]


SUITES = {"core": core, "tool_only": tool_only, "chains": chained}


@entry.command()
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, help="Where the suites are written.")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), default=CHECKPOINT, help="The model that plays."
)
@click.option("--seed", type=entry.WholeRange(), default=SEED, show_default=True, help="Draws the tasks.")
def main(out: Path, checkpoint: Path, seed: int) -> None:
    """Write the bundled suites, each task one that the model gets right."""
    engine = Engine.load(checkpoint, backend="numpy")
    with (
        tempfile.TemporaryDirectory() as folder,
        build_registry(ToolsConfig(ledger_path=Path(folder) / "ledger.sqlite")) as registry,
    ):
        for name in SUITES:
            _write(name, engine, RealTools(registry), out, seed)


def _write(name: str, engine: Engine, tools: RealTools, out: Path, seed: int) -> None:
    rng = random.Random(f"{name}/{seed}")
    draw = Draw(rng=rng, part=Part(values=True))
    pool: Counter[str] = Counter()
    right: Counter[str] = Counter()
    prompts: set[str] = set()
    lines: list[str] = []
    for run, families in enumerate(SUITES[name](rng)):
        for family in families:
            chosen = None
            while chosen is None:
                for _ in range(CANDIDATES):
                    task = candidate(draw, tools, family)
                    if task.prompt in prompts:
                        continue
                    pool[family] += 1
                    good = is_right(engine, tools, task)
                    right[family] += good
                    if good and chosen is None:
                        chosen = task
            prompts.add(chosen.prompt)
            lines.append(chosen.as_line(f"{name}-{len(lines):02d}", run))
        entry.note(f"{name}: run {run + 1}")
    write_whole(out / f"{name}.jsonl", ("\n".join(lines) + "\n").encode())
    print(
        f"{name}: {len(lines)} tasks; the model is right on {sum(right.values())} of {sum(pool.values())} candidates"
    )
    for family in sorted(pool):
        if right[family] < pool[family]:
            print(f"  {family}: {right[family]} of {pool[family]}")


if __name__ == "__main__":
    main(prog_name="python -m matrices.spec.make_suites")
