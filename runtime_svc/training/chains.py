"""Chains: two to four calls, where a result feeds the next call; and calls that come right after an error."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from runtime_svc.training import cities, notes_and_ledger, random_tools, real_tools
from runtime_svc.training.arithmetic import apply, expression, is_plain
from runtime_svc.training.dialogue import Step
from runtime_svc.training.phrasing import frame, phrasings
from runtime_svc.training.random_tools import RandomTool
from runtime_svc.training.real_tools import Single
from runtime_svc.training.vocabulary import Draw

SOURCE_FACT = phrasings("chain/fact", """
look up the {field} of {city}
find the {field} of {city}
~ get the {field} of {city}
take the {field} of {city}
[fetch|check|read] the {field} of {city}
look up {city}'s {field}
[fetch|check|take] {city}'s {field}
~ find {city}'s {field}
find out the {field} of {city}
[take|get|read] the {field} of the city {city}
look up the {field} of the city {city}
check [out|up] the {field} of {city}
~ read {city}'s {field}
""")  # fmt: skip
SOURCE_SUM = phrasings("chain/expression", """
work out {e}
calculate {e}
~ find the value of {e}
compute {e}
evaluate {e}
[work out|compute|find] the value of {e}
take {e} and work it out
~ calculate the value of {e}
get the result of {e}
[find|calculate|compute] the result of {e}
get the value of {e}
take the value of {e}
""")  # fmt: skip
SOURCE_NOTE = phrasings("chain/note", """
find the note about {topic} and take the first number in it
look up the note about {topic} and take its first number
~ find my note about {topic} and take the first number in it
search my notes for {topic} and take the first number
take the first number in the note about {topic}
search the notes for {topic} and get the first number in it
[get|find|read] the first number in my note about {topic}
~ look up the first number in the note about {topic}
get the first number from the note about {topic}
search my notes for {topic} and get the first number from it
take the first number from my note about {topic}
find the note on {topic} and read its first number
~ look up the note about {topic} and get the first number in it
search the notes for {topic} and use the first number there
""")  # fmt: skip
BOTH: dict[str, Any] = {
    "-": phrasings("chain/difference", """
work out the difference between the {field} of {a} and {b}
find the {field} of {a} minus the {field} of {b}
~ work out the {field} of {a} minus that of {b}
look up the {field} of {a} and of {b} and subtract the second from the first
take the {field} of {a} and subtract the {field} of {b}
calculate the difference between the {field} of {a} and that of {b}
[find|take] the {field} of {a} minus that of {b}
~ calculate the {field} of {a} minus the {field} of {b}
get the {field} of {a} and subtract that of {b}
from the {field} of {a} subtract the {field} of {b}
look up the {field} of {a} and subtract that of {b} from it
[find|get|work out] the difference between {a}'s {field} and {b}'s
~ take the {field} of {a} and subtract that of {b}
look up {a}'s {field} and subtract {b}'s
"""),
    "+": phrasings("chain/sum", """
work out the sum of the {field} of {a} and {b}
find the {field} of {a} plus the {field} of {b}
~ work out the {field} of {a} plus that of {b}
look up the {field} of {a} and of {b} and add the second to the first
take the {field} of {a} and add the {field} of {b}
calculate the sum of the {field} of {a} and that of {b}
[find|take] the {field} of {a} plus that of {b}
~ calculate the {field} of {a} plus the {field} of {b}
get the {field} of {a} and add that of {b}
to the {field} of {a} add the {field} of {b}
look up the {field} of {a} and add that of {b} to it
[find|get|work out] the sum of {a}'s {field} and {b}'s
~ take the {field} of {a} and add that of {b}
look up {a}'s {field} and add {b}'s
"""),
}  # fmt: skip
MIDDLE: dict[str, Any] = {
    "+": phrasings("chain/add", """
add {n} to it
add {n}
~ add {n} to the result
increase that by {n}
[add|give] it {n} more
increase the result by {n}
raise it by {n}
~ increase it by {n}
add {n} to that
raise [that|the result] by {n}
"""),
    "-": phrasings("chain/subtract", """
subtract {n} from it
subtract {n}
~ subtract {n} from that
reduce that by {n}
take away {n} from it
reduce the result by {n}
lower it by {n}
~ reduce it by {n}
take {n} away from [it|that]
lower [that|the result] by {n}
subtract {n} from the result
"""),
    "*": phrasings("chain/multiply", """
multiply it by {n}
multiply that by {n}
~ multiply it with {n}
multiply by {n}
[take|multiply] it times {n}
multiply that with {n}
take the result times {n}
~ multiply the result by {n}
take that times {n}
"""),
    "/": phrasings("chain/divide", """
divide it by {n}
divide that by {n}
~ divide by {n}
split it by {n}
divide it through {n}
split that by {n}
split the result by {n}
~ divide the result by {n}
divide that through {n}
"""),
}  # fmt: skip
SINK = phrasings("chain/record", """
record it in {account}
record it for {account}
~ record that in {account}
record the result in {account}
book it to {account}
put it into the ledger under {account}
book that [to|on] {account}
~ enter it in the ledger for {account}
add it to the {account} account
record that number [for|under] {account}
put that number into the ledger for {account}
enter the result under {account}
~ enter that number in the ledger under {account}
append it to the ledger for {account}
book the number on {account}
add that to the {account} account
append the result to the ledger under {account}
~ record that number in {account}
put the result on the {account} account
book it on {account}
""")  # fmt: skip
_JOINS = (", then ", " and then ", ". Then ", ", and then ", "; then ")
TWICE = phrasings("chain/two-entries", """
record {a} in {x} and {b} in {y}
record {a} for {x} and then {b} for {y}
~ record {a} in {x}, then {b} in {y}
book {a} to {x} and then {b} to {y}
enter {a} for {x} and {b} for {y} in the ledger
book {a} to {x}, then {b} [on|under] {y}
[book|record|enter] {a} for {x}, then {b} for {y}
~ book {a} to {x}, then {b} to {y}
put {a} into the ledger under {x} and {b} under {y}
book {a} on {x} and {b} on {y}
[enter|record] {a} under {x} and then {b} under {y}
record two entries: {a} for {x} and {b} for {y}
""")  # fmt: skip


def joined(draw: Draw, clauses: list[str]) -> str:
    """The clauses as one prompt, "..., then ..."."""
    text = clauses[0]
    for clause in clauses[1:]:
        joint = draw.pick(_JOINS)
        text += joint + clause
    return frame(draw, text)


def _source_fact(draw: Draw) -> tuple[str, list[Step], int]:
    column = draw.pick(("population", "population", "founded"))
    field = "founding year" if column == "founded" else column
    city = cities.place(draw)
    value = int(cities.attribute_value(draw, column))
    step = real_tools.select(cities.attribute_query(column, city), [column], [[value]])
    return SOURCE_FACT.clause(draw, field=field, city=city), [step], value


def difference_text(operator: str, first: int, second: int) -> str:
    """The expression for two looked-up numbers."""
    return f"{first} {operator} {second}"


def _source_two_facts(draw: Draw) -> tuple[str, list[Step], int]:
    column = draw.pick(("population", "population", "founded"))
    field = "founding year" if column == "founded" else column
    a, b = cities.place(draw), cities.place(draw)
    operator = draw.pick("+-")
    steps, values = [], []
    for city in (a, b):
        value = int(cities.attribute_value(draw, column))
        values.append(abs(value))
        steps.append(real_tools.select(cities.attribute_query(column, city), [column], [[abs(value)]]))
    result = apply(operator, Fraction(values[0]), Fraction(values[1]))
    assert result is not None
    steps.append(real_tools.calculate(difference_text(operator, *values), result))
    return BOTH[operator].clause(draw, field=field, a=a, b=b), steps, int(result)


def _source_expression(draw: Draw) -> tuple[str, list[Step], int]:
    while True:
        text, value = expression(draw)
        if value.denominator == 1 and abs(value) < 10**9:
            return SOURCE_SUM.clause(draw, e=text), [real_tools.calculate(text, value)], int(value)


def first_number(text: str) -> int | None:
    """The first run of digits in a text as a number; None without one, or when it starts with a zero."""
    digits = ""
    for letter in text:
        if letter in "0123456789":
            digits += letter
        elif digits:
            break
    return None if not digits or digits[0] == "0" else int(digits)


def _source_note(draw: Draw) -> tuple[str, list[Step], int]:
    while True:
        topic = notes_and_ledger.topic_of(draw)
        text = notes_and_ledger.note_text(draw, topic)
        number = first_number(text)
        if number is not None:
            break
    note = topic.split()[0] if draw.chance(0.6) else draw.word()
    return SOURCE_NOTE.clause(draw, topic=topic), [notes_and_ledger.search(topic, [(note, text)])], number


def _middle(draw: Draw, value: int, *, integral: bool) -> tuple[str, Step, Fraction]:
    while True:
        operator = draw.pick("++--**/")
        n = draw.integer(2, 99999 if operator in "+-" else 999)
        result = apply(operator, Fraction(value), Fraction(n))
        if result is None or not is_plain(result) or (integral and result.denominator != 1):
            continue
        if integral and abs(result) >= 10**9:
            continue
        text = f"{value} {operator} {n}"
        return MIDDLE[operator].clause(draw, n=n), real_tools.calculate(text, result), result


def real_chain(draw: Draw) -> Single:
    """A chain over the real tools: a source, maybe a calculation, maybe a ledger entry; two to four calls."""
    if draw.chance(0.08):
        return _two_entries(draw)
    while True:
        source = draw.pick((_source_fact, _source_fact, _source_two_facts, _source_two_facts, _source_expression,
                            _source_note))  # fmt: skip
        clause, steps, value = source(draw)
        clauses = [clause]
        sink = draw.chance(0.65)
        answer = real_tools.calculator_answer(value)
        if draw.chance(0.6):
            text, step, result = _middle(draw, value, integral=sink)
            clauses.append(text)
            steps.append(step)
            answer = real_tools.calculator_answer(result)
            value = int(result)
        if sink and abs(value) < 10**9:
            account = draw.word()
            clauses.append(SINK.clause(draw, account=account))
            steps.append(real_tools.record(account, value))
            answer = real_tools.ledger_answer(account, value)
        if 2 <= len(steps) <= 4:
            return joined(draw, clauses), tuple(steps), answer


def _two_entries(draw: Draw) -> Single:
    x, y = draw.words(2)
    a, b = draw.integer(1, 99999), draw.integer(1, 99999)
    prompt = TWICE.say(draw, a=a, b=b, x=x, y=y)
    answer = f"Recorded {a} in {x} and {b} in {y}."
    return prompt, (real_tools.record(x, a), real_tools.record(y, b)), answer


_FIRST = phrasings("random-chain/first", """
get the {key} of the {noun} {name}
find the {key} of the {noun} {name}
~ take the {key} of the {noun} {name}
look up the {key} of the {noun} {name}
fetch the {key} of the {noun} {name}
read the {key} of the {noun} {name}
[find|look up|get] the {key} of {noun} {name}
~ take the {key} of {noun} {name}
find out the {key} of the {noun} {name}
take the {key} for the {noun} {name}
[get|take] the {key} that the {noun} {name} has
[fetch|read|check] the {key} of {noun} {name}
[get|take|find] the {key} that {noun} {name} has
look up what {key} {noun} {name} has
[get|take] the {key} from the {noun} {name}
[take|read] the {key} from {noun} {name}
take {noun} {name} and [get|find|read] its {key}
take the {noun} {name} and [get|find|look up] the {key} of it
for the {noun} {name}, [take|get|look up] the {key}
for {noun} {name}, [take|find] the {key}
[take|find] the {key} for {noun} {name}
[pick|grab|note|copy|see|use|have] the {key} of {noun} {name}
[pick|grab|note|copy|see|use|have] the {key} of the {noun} {name}
[show|tell|bring|give] me the {key} of {noun} {name}
[show|tell|bring|give] me the {key} of the {noun} {name}
take [a look at|down|out|up] the {key} of {noun} {name}
take [a look at|down|out|up] the {key} of the {noun} {name}
[find out|work out|write down] the {key} of {noun} {name}
take first the {key} of {noun} {name}
take this: the {key} of the {noun} {name}
""")  # fmt: skip
_NEXT = phrasings("random-chain/next", """
{verb} the {noun} with that {key}
{verb} a {noun} with that {key}
~ {verb} a {noun} with this {key}
{verb} the {noun} using that {key}
{verb} the {noun} with this {key}
use that {key} to {verb} the {noun}
{verb} a {noun} using this {key}
~ {verb} a {noun} using that {key}
use [this|that] {key} to {verb} a {noun}
""")  # fmt: skip
_NEXT_AS = phrasings("random-chain/next-as", """
{verb} the {noun} with that {key} as the {words}
{verb} a {noun} with that {key} as the {words}
~ {verb} a {noun} with this {key} as the {words}
{verb} the {noun} using that {key} as the {words}
use that {key} as the {words} to {verb} the {noun}
use that {key} as the {words} and {verb} the {noun}
{verb} a {noun} using this {key} as its {words}
~ use that {key} as the {words} and {verb} a {noun}
{verb} the {noun} with this {key} as the {words}
""")  # fmt: skip


def random_chain(draw: Draw) -> tuple[Single, list[RandomTool]]:
    """A chain over random tools: a lookup, then one to three actions that each take the last result."""
    first = random_tools.lookup(draw)
    name = draw.name()
    value, key = random_tools.text_value(draw), first.key
    clauses = [_FIRST.clause(draw, key=key, noun=first.noun, name=name)]
    result: dict[str, Any] = {key.replace(" ", "_"): value}
    steps = [Step(name=first.name, arguments={first.parameters[0].name: name}, result=result)]
    tools = [first]
    for _ in range(draw.pick((1, 1, 2, 2, 3))):
        same = draw.chance(0.5)
        words = key if same else random_tools.distinct_words(draw, 1)[0]
        used = random_tools.action(draw, takes=words)
        if used.name in {t.name for t in tools}:
            continue
        mentions, arguments = [], {}
        for one in used.parameters:
            if one.words == words:
                arguments[one.name] = value
            elif one.required:
                text, given = random_tools.mention(draw, one)
                mentions.append(text)
                arguments[one.name] = given
        pattern = _NEXT if same else _NEXT_AS
        clause = pattern.clause(draw, verb=used.verb, noun=used.noun, key=key, words=words)
        if mentions:
            clause += draw.pick((" and ", ", ", " and ")) + random_tools.details(draw, mentions)
        clauses.append(clause)
        key, value = random_tools.distinct_words(draw, 1)[0], random_tools.text_value(draw)
        result = {key.replace(" ", "_"): value}
        steps.append(Step(name=used.name, arguments=arguments, result=result))
        tools.append(used)
    if len(steps) == 1:
        return random_chain(draw)
    return (joined(draw, clauses), tuple(steps), random_tools.reported(result)), tools
