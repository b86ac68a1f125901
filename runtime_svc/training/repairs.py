"""Calls that a tool refuses: corrected when the error says what was meant, reported when it does not."""

from __future__ import annotations

from runtime_svc.training import calculations, cities, notes_and_ledger, random_tools, real_tools
from runtime_svc.training.dialogue import Step
from runtime_svc.training.phrasing import frame, phrasings
from runtime_svc.training.random_tools import RandomTool
from runtime_svc.training.real_tools import Single
from runtime_svc.training.vocabulary import Draw, typo

_UNKNOWN = (
    '"{p}" to be one of the {w}s', "a known {p}", "one of the known {p}s", "a {p} that exists", "a valid {p}",
    'a {p} of {w}({x}, {y})', 'the name of a {p}', "a {p} among {x}, {y}",
)  # fmt: skip
_HOPELESS = (
    "try later", "correct the request", "ask the owner", "use one of: {x}, {y}", "see the log", "check the {w}",
    "correct the expression", "correct the query", "use smaller numbers", "give up",
)  # fmt: skip
_GOT = (
    '"{v}"', "{v}", "none of that name", "{n} characters", '0 for the "/" at character {d}', "a closed {w}",
    "{w} {w2}", "one beyond", "more", "the end at character {d}", "no {w} for {v}", "{n}", "a {w} that is {w2}",
    '"{v}" at character {d}', "'{s}' at character {d}", 'near "{w}": syntax error',
)  # fmt: skip


def repairable(expected: str, got: str, right: str) -> dict[str, str]:
    """The result of a call that an error stopped which says what was meant."""
    return {"error": f'expected {expected}; got "{got}"; did you mean "{right}"?'}


def hopeless(draw: Draw, value: str) -> tuple[dict[str, str], str]:
    """An error that no correction helps, and the answer that reports it."""
    w, w2, x, y = draw.words(4)
    fields = {"w": w, "w2": w2, "x": x, "y": y, "p": draw.field_word(), "v": value, "n": draw.integer(0, 9999),
              "d": draw.below(1, 40), "s": draw.pick("+*/)(%^&")}  # fmt: skip
    expected = draw.pick(_UNKNOWN).format(**fields) if draw.chance(0.7) else f"{w} {w2}"
    got, todo = draw.pick(_GOT).format(**fields), draw.pick(_HOPELESS).format(**fields)
    return {"error": f"expected {expected}; got {got}; {todo}"}, failed_answer(got)


def failed_answer(got: str) -> str:
    """The final answer for an error that cannot be repaired."""
    return f"It failed: got {got}."


def ledger_error(account: str, right: str) -> dict[str, str]:
    """The ledger's refusal of an account that it nearly knows."""
    return repairable('"account" to be one of the ledger\'s accounts', account, right)


def column_error(column: str, right: str) -> dict[str, str]:
    """The SQL tool's refusal of a column that it nearly knows."""
    return repairable("a column of cities(name, country, population, founded, river)", column, right)


def ledger_repair(draw: Draw) -> Single:
    """An account that is spelt wrong, then right."""
    account = next(w for w in iter(draw.word, "") if len(w) > 3)
    wrong, amount = typo(draw.rng, account), draw.integer(1, 99999)
    first = Step(name=real_tools.LEDGER, arguments={"account": wrong, "amount": amount},
                 result=ledger_error(wrong, account))  # fmt: skip
    steps = (first, real_tools.record(account, amount))
    return notes_and_ledger.ask_record(draw, wrong, amount), steps, real_tools.ledger_answer(account, amount)


BY_COLUMN = phrasings("repair/column", """
what is in the column {column} for {city}?
select the column {column} for {city}
~ get the column {column} of {city}
read the column {column} of {city}
get the column {column} for {city}
query the column {column} for {city}
look up the column {column} of {city}
~ what is in the column {column} of {city}?
select the column {column} of {city}
""")  # fmt: skip


def column_repair(draw: Draw) -> Single:
    """A column that is spelt wrong, then right."""
    column = draw.pick(("population", "country", "founded", "river"))
    wrong, city = typo(draw.rng, column), cities.place(draw)
    value = cities.attribute_value(draw, column)
    steps = (
        Step(name=real_tools.FACTS, arguments={"query": cities.attribute_query(wrong, city)},
             result=column_error(wrong, column)),
        real_tools.select(cities.attribute_query(column, city), [column], [[value]]),
    )  # fmt: skip
    prompt = BY_COLUMN.say(draw, column=wrong, city=city)
    return prompt, steps, cities.attribute_answer(column, value)


def column_plain(draw: Draw) -> Single:
    """A column that is asked for by its right name, so that the phrase alone does not mean an error."""
    column, city = draw.pick(("population", "country", "founded", "river")), cities.place(draw)
    value = cities.attribute_value(draw, column)
    step = real_tools.select(cities.attribute_query(column, city), [column], [[value]])
    return BY_COLUMN.say(draw, column=column, city=city), (step,), cities.attribute_answer(column, value)


def real_failure(draw: Draw) -> Single:
    """A call of a real tool that fails for good."""
    prompt, steps, _ = draw.pick((calculations.calculator, notes_and_ledger.ledger, cities.facts_attribute,
                                  notes_and_ledger.notes))(draw)  # fmt: skip
    result, answer = hopeless(draw, draw.word())
    return prompt, (Step(name=steps[0].name, arguments=steps[0].arguments, result=result),), answer


def division_by_zero(draw: Draw) -> Single:
    """The calculator's refusal to divide by zero."""
    a = draw.integer(1, 99999)
    text = f"{a} / 0"
    got = f'0 for the "/" at character {text.index("/") + 1}'
    result = {"error": f"expected a divisor other than 0; got {got}; correct the expression"}
    prompt = frame(
        draw, draw.pick((f"what is {text}?", f"work out {text}", f"calculate {text}", f"how much is {text}?"))
    )
    step = Step(name=real_tools.CALCULATOR, arguments={"expression": text}, result=result)
    return prompt, (step,), failed_answer(got)


def random_repair(draw: Draw) -> tuple[Single, list[RandomTool]]:
    """A random tool that refuses one argument: with the right value in the error, or for good."""
    used = random_tools.random_tool(draw)
    asked = random_tools.request(draw, used)
    names = [n for n, v in asked.arguments.items() if isinstance(v, str) and len(v) > 3 and '"' not in v]
    if not names:
        return random_repair(draw)
    wrong_name = draw.pick(names)
    given = asked.arguments[wrong_name]
    prompt = frame(draw, asked.clause)
    if draw.chance(0.3):
        result, answer = hopeless(draw, given)
        return (prompt, (Step(name=used.name, arguments=asked.arguments, result=result),), answer), [used]
    right = typo(draw.rng, given) if draw.chance(0.6) else random_tools.text_value(draw)
    x, y, w = draw.words(3)
    p = next(p.words for p in used.parameters if p.name == wrong_name)
    expected = draw.pick(_UNKNOWN).format(p=p, w=w, x=x, y=y)
    final = random_tools.result_of(draw, used)
    steps = (
        Step(name=used.name, arguments=asked.arguments, result=repairable(expected, given, right)),
        Step(name=used.name, arguments={**asked.arguments, wrong_name: right}, result=final),
    )
    return (prompt, steps, random_tools.reported(final)), [used]
