"""The four tools of `tools_svc` as the model sees them, and single calls of each with values of our own.

Results have exactly the form that the real tools give; cities, notes and accounts are drawn, not the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from runtime_svc.training.arithmetic import apply, as_number, expression, is_plain, operand
from runtime_svc.training.dialogue import Step, tool
from runtime_svc.training.phrasing import Phrasings, phrasings
from runtime_svc.training.vocabulary import Draw

CALCULATOR, FACTS, NOTES, LEDGER = "calculator", "facts_sql", "notes_search", "ledger_append"

SPECS: dict[str, dict[str, Any]] = {
    CALCULATOR: tool(
        CALCULATOR,
        "Works out an arithmetic expression exactly.",
        {"expression": {"type": "string", "description": "numbers with + - * / and parentheses"}},
        ["expression"],
    ),
    FACTS: tool(
        FACTS,
        "Runs one read-only SQL query on the table cities(name, country, population, founded, river).",
        {"query": {"type": "string", "description": "one SELECT statement"}},
        ["query"],
    ),
    NOTES: tool(
        NOTES,
        "Searches the notes and returns the best matches.",
        {
            "query": {"type": "string", "description": "words to look for"},
            "limit": {
                "type": "integer",
                "description": "how many matches to return, 1 if absent",
                "minimum": 1,
                "maximum": 5,
            },
        },
        ["query"],
    ),
    LEDGER: tool(
        LEDGER,
        "Appends one entry to the ledger.",
        {
            "account": {"type": "string", "description": "one of the ledger's accounts"},
            "amount": {"type": "integer", "description": "whole units"},
        },
        ["account", "amount"],
    ),
}
"""The real tools by name. A test compares them with `tools_svc`."""

EMPTY = "Nothing was found."

Single = tuple[str, tuple[Step, ...], str]
"""A prompt, the right steps, and the answer."""


def calculate(text: str, value: Fraction) -> Step:
    """The calculator's call for an expression."""
    return Step(name=CALCULATOR, arguments={"expression": text}, result={"value": as_number(value)})


def calculator_answer(value: Fraction | int | float) -> str:
    """The final answer for a calculator's value."""
    return f"The result is {as_number(value) if isinstance(value, Fraction) else value}."


def record(account: str, amount: int) -> Step:
    """The ledger's call for an entry."""
    arguments = {"account": account, "amount": amount}
    return Step(name=LEDGER, arguments=arguments, result={"recorded": dict(arguments)})


def ledger_answer(account: str, amount: int) -> str:
    """The final answer for an entry."""
    return f"Recorded {amount} in {account}."


def select(query: str, columns: list[str], rows: list[list[Any]]) -> Step:
    """The SQL tool's call for a query."""
    return Step(name=FACTS, arguments={"query": query}, result={"columns": columns, "rows": rows})


_EXPRESSION = phrasings("calculator/expression", """
what is {e}?
work out {e}
~ calculate {e}
compute {e}
how much is {e}?
evaluate {e}
what does {e} come to?
~ find the value of {e}
solve {e}
tell me the result of {e}
what is the value of {e}?
give me the result of {e}
~ do the sum {e}
what do you get for {e}?
what does {e} equal?
calculate the value of {e}
work out the value of {e}
~ give the exact value of {e}
find the exact value of {e}
do the sum {e} for me
find what {e} is
[do|find] this sum: {e}
""")  # fmt: skip

_WORDED: dict[str, Phrasings] = {
    "+": phrasings("calculator/plus", """
what is {a} plus {b}?
add {a} and {b}
~ what is the sum of {a} and {b}?
how much is {a} plus {b}?
work out {a} plus {b}
give me the sum of {a} and {b}
calculate {a} plus {b}
~ find the sum of {a} and {b}
compute the sum of {a} and {b}
add the numbers {a} and {b}
sum {a} and {b}
what does {a} plus {b} equal?
find {a} plus {b}
what do you get for {a} plus {b}?
"""),
    "-": phrasings("calculator/minus", """
what is {a} minus {b}?
how much is {a} minus {b}?
~ what does {a} minus {b} equal?
work out {a} minus {b}
calculate {a} minus {b}
take {a} minus {b}
compute {a} minus {b}
~ tell me what {a} minus {b} is
find {a} minus {b}
tell me what {a} minus {b} [does|is]
is {a} minus {b} equal to what?
tell me {a} minus {b}
"""),
    "*": phrasings("calculator/times", """
what is {a} times {b}?
multiply {a} by {b}
~ how much is {a} times {b}?
what is the product of {a} and {b}?
work out {a} times {b}
calculate {a} times {b}
what is {a} multiplied by {b}?
~ find the product of {a} and {b}
compute {a} times {b}
give me {a} times {b}
how much do {a} times {b} make?
find {a} times {b}
find {a} multiplied by {b}
"""),
    "/": phrasings("calculator/over", """
what is {a} divided by {b}?
divide {a} by {b}
~ how much is {a} divided by {b}?
work out {a} divided by {b}
calculate {a} divided by {b}
what do you get when you divide {a} by {b}?
compute {a} divided by {b}
~ find {a} divided by {b}
give me {a} divided by {b}
how much do you get for {a} divided by {b}?
find what {a} divided by {b} is
"""),
}  # fmt: skip

_STORY: tuple[tuple[str, Phrasings], ...] = (
    ("*", phrasings("calculator/boxes", """
={name} has {a} boxes with {b} {things} each. How many {things} is that in all?
={name} packs {a} bags of {b} {things}. How many {things} are packed in all?
~ =There are {a} shelves with {b} {things} on each. How many {things} in all?
=Each of {a} crates holds {b} {things}. How many {things} are there in all?
={a} carts carry {b} {things} each. How many {things} do they carry in all?
={name} orders {a} packs of {b} {things}. How many {things} in all?
={name} fills {a} shelves with {b} {things} on each shelf. How many {things} in all?
=There are {a} boxes of {b} {things}. How many {things} are there in all?
""")),
    ("+", phrasings("calculator/together", """
={name} has {a} {things} and gets {b} more. How many {things} in all?
={name} has {a} {things} and {other} has {b}. How many {things} together?
~ ={a} {things} came in the morning and {b} in the evening. How many {things} in all?
={name} counted {a} {things}, {other} counted {b}. How many {things} together?
=There were {a} {things}, then {b} more came. How many {things} in all?
={name} picked {a} {things} and {other} picked {b}. How many {things} together?
={name} sold {a} {things} in the morning and {b} in the evening. How many {things} together?
={a} {things} came on the first day and {b} more came on the second. How many {things} in all?
""")),
    ("-", phrasings("calculator/left", """
={name} has {a} {things} and gives away {b}. How many {things} are left?
=There were {a} {things} and {b} were sold. How many {things} are left?
~ =Of {a} {things}, {b} were lost. How many {things} are left?
={name} had {a} {things} and lost {b}. How many {things} are left?
=From {a} {things}, {name} takes {b}. How many {things} are left?
={name} baked {a} {things} and {other} ate {b}. How many {things} are left?
=Out of {a} {things}, {name} sold {b}. How many {things} are left?
=Of the {a} {things} that {name} had, {b} were sold. How many {things} are left?
""")),
)  # fmt: skip


def calculator(draw: Draw) -> Single:
    """One calculator call: an expression as typed, an operation in words, or a small story."""
    kind = draw.rng.random()
    while True:
        if kind < 0.55:
            text, value = expression(draw)
            prompt = _EXPRESSION.say(draw, e=text)
            break
        a, b = operand(draw), operand(draw)
        if kind < 0.85:
            operator = draw.pick("+-*/")
            prompt = _WORDED[operator].say(draw, a=a, b=b)
        else:
            a, b = str(draw.integer(2, 9999)), str(draw.integer(2, 999))
            operator, story = draw.pick(_STORY)
            name, other = draw.names(2)
            prompt = story.say(draw, a=a, b=b, name=name, other=other, things=draw.word() + "s")
        result = apply(operator, Fraction(a), Fraction(b))
        if result is not None and is_plain(result):
            text, value = f"{a} {operator} {b}", result
            break
    return prompt, (calculate(text, value),), calculator_answer(value)


# Cities. The columns are the real ones; their values are drawn.

_ASKED = {
    "population": ("population",),
    "country": ("country",),
    "founded": ("founding year", "year of founding"),
    "river": ("river",),
}
_ATTRIBUTE = phrasings("facts/attribute", """
what is the {field} of {city}?
tell me the {field} of {city}
~ give me the {field} of {city}
look up the {field} of {city}
find the {field} of {city}
which {field} does {city} have?
what is the {field} of the city of {city}?
~ find out the {field} of {city}
what {field} does {city} have?
get the {field} of {city}
what is {city}'s {field}?
check the {field} of {city}
~ show the {field} of the city {city}
=I need the {field} of {city}.
look up {city}'s {field}
tell me {city}'s {field}
give me {city}'s {field}
find out what the {field} of {city} is
show me the {field} of {city}
""")  # fmt: skip
_NATURAL: dict[str, Phrasings] = {
    "population": phrasings("facts/people", """
how many people live in {city}?
how many inhabitants does {city} have?
~ how many people are there in {city}?
how big is the population of {city}?
how many inhabitants live in {city}?
what number of people live in {city}?
tell me how many people live in {city}
~ say how many inhabitants {city} has
are there many people in {city}? How many?
say how many people live in {city}
tell me how many inhabitants there are in {city}
tell me how many people {city} has
"""),
    "country": phrasings("facts/where", """
in which country is {city}?
which country is {city} in?
~ in what country does {city} lie?
in which country does {city} lie?
what country does {city} belong to?
to which country does {city} belong?
which country does {city} belong to?
~ tell me which country {city} is in
tell me in which country {city} is
tell me the country that {city} lies in
"""),
    "founded": phrasings("facts/when", """
when was {city} founded?
in which year was {city} founded?
~ what year was {city} founded?
what year was the city of {city} founded in?
tell me when {city} was founded
in what year was {city} founded?
find out when {city} was founded
~ look up when {city} was founded
look up in which year {city} was founded
look up the year {city} was founded in
"""),
    "river": phrasings("facts/flows", """
which river flows through {city}?
what river flows through {city}?
~ on which river does {city} lie?
on which river is {city}?
which river is {city} on?
what river does {city} lie on?
tell me which river flows through {city}
~ what river runs through {city}?
which river runs through {city}?
tell me which river {city} is on
what river is {city} on?
"""),
}  # fmt: skip

LIST_COUNTRY = phrasings("facts/in-country", """
list the cities in {country}
which cities are in {country}?
~ which cities lie in {country}?
name the cities in {country}
name all cities of {country}
what cities are there in {country}?
give me all cities in {country}
~ show the cities of {country}
what are the cities in {country}?
list all cities of {country}
show me the cities in {country}
what cities lie in {country}?
tell me which cities lie in {country}
""")  # fmt: skip
LIST_RIVER = phrasings("facts/on-river", """
list the cities on the river {river}
which cities are on the river {river}?
~ which cities lie on the river {river}?
name the cities on the river {river}
name all cities on the river {river}
what cities are there on the river {river}?
give me all cities on the river {river}
~ show the cities on the river {river}
show me the cities on the river {river}
what cities lie on the river {river}?
""")  # fmt: skip
COUNT_COUNTRY = phrasings("facts/count", """
how many cities are in {country}?
count the cities in {country}
~ how many cities are there in {country}?
how many cities does {country} have?
tell me how many cities are in {country}
count all cities of {country}
what is the number of cities in {country}?
~ give me the number of cities in {country}
give me the count of cities in {country}
how many cities are there in the country {country}?
find the number of cities in {country}
""")  # fmt: skip
_MORE_THAN = phrasings("facts/more", """
which cities have more than {n} people?
list the cities with more than {n} people
~ which cities have a population over {n}?
list the cities with a population over {n}
name the cities with more than {n} people
which cities have more than {n} inhabitants?
name the cities with a population over {n}
~ list the cities with more than {n} inhabitants
""")  # fmt: skip
_COUNT_MORE = phrasings("facts/count-more", """
how many cities have more than {n} people?
count the cities with more than {n} people
~ how many cities have a population over {n}?
count the cities with a population over {n}
how many cities have more than {n} inhabitants?
what is the number of cities with more than {n} people?
tell me how many cities have more than {n} people
""")  # fmt: skip
_BEFORE = phrasings("facts/before", """
which cities were founded before {n}?
list the cities founded before {n}
~ which cities were founded before the year {n}?
name the cities founded before {n}
list all cities founded before {n}
show the cities that were founded before {n}
name all cities founded before the year {n}
""")  # fmt: skip

EXTREMES: tuple[tuple[str, str, Phrasings], ...] = (
    ("population", "DESC", phrasings("facts/largest", """
what is the [largest|biggest] city{where}?
which city{where} is the [largest|biggest]?
~ which is the [largest|biggest] city{where}?
which city{where} has the [largest|biggest|highest] population?
name the [largest|biggest] city{where}
find the [largest|biggest] city{where}
which city{where} has the most people?
~ tell me the [largest|biggest] city{where}
tell me which city{where} is the [largest|biggest]
tell me the city{where} with the most people
""")),
    ("population", "ASC", phrasings("facts/smallest", """
what is the smallest city{where}?
which city{where} is the smallest?
~ which is the smallest city{where}?
which city{where} has the [smallest|lowest] population?
name the smallest city{where}
find the smallest city{where}
which city{where} has the fewest people?
~ tell me the smallest city{where}
tell me which city{where} is the smallest
tell me the city{where} with the fewest people
""")),
    ("founded", "ASC", phrasings("facts/oldest", """
what is the oldest city{where}?
which city{where} is the oldest?
~ which is the oldest city{where}?
which city{where} was founded first?
name the oldest city{where}
find the oldest city{where}
which city{where} was founded earliest?
~ tell me the oldest city{where}
tell me which city{where} is the oldest
tell me the city{where} that was founded first
""")),
    ("founded", "DESC", phrasings("facts/newest", """
what is the [newest|youngest] city{where}?
which city{where} is the [newest|youngest]?
~ which is the [newest|youngest] city{where}?
which city{where} was founded last?
name the [newest|youngest] city{where}
find the [newest|youngest] city{where}
which city{where} was founded latest?
~ tell me the [newest|youngest] city{where}
tell me which city{where} is the [newest|youngest]
tell me the city{where} that was founded last
""")),
)  # fmt: skip
TOTALS: tuple[tuple[str, str, Phrasings], ...] = (
    ("SUM", "total", phrasings("facts/total", """
what is the total population of all cities{where}?
how many people live in all cities{where} together?
~ give me the total population of the cities{where}
find the total population of all cities{where}
tell me the total population of the cities{where}
how large is the total population of the cities{where}?
add up the population of all cities{where}
give me the population of all cities{where} in total
give me the sum of the population of all cities{where}
"""),),
    ("MAX", "highest", phrasings("facts/highest", """
what is the highest population of a city{where}?
give me the highest population of the cities{where}
~ how high is the highest population of a city{where}?
find the highest population of a city{where}
tell me the highest population of a city{where}
what is the highest population among the cities{where}?
how high does the population of a city{where} get at most?
how high is the population of the largest city{where}?
"""),),
    ("MIN", "lowest", phrasings("facts/lowest", """
what is the lowest population of a city{where}?
give me the lowest population of the cities{where}
~ how low is the lowest population of a city{where}?
find the lowest population of a city{where}
tell me the lowest population of a city{where}
what is the lowest population among the cities{where}?
how low does the population of a city{where} get at least?
how low is the population of the smallest city{where}?
"""),),
)  # fmt: skip


def place(draw: Draw) -> str:
    """A name for a city, country or river: one word, or one time in six two."""
    return " ".join(draw.names(2)) if draw.chance(0.17) else draw.name()


def attribute_query(column: str, city: str) -> str:
    """The query for one attribute of one city."""
    return f"SELECT {column} FROM cities WHERE name = '{city}'"


def attribute_value(draw: Draw, column: str) -> str | int:
    """A value for a column of the table of cities."""
    if column == "population":
        return draw.integer(1000, 19999999)
    if column == "founded":
        return -draw.integer(1, 900) if draw.chance(0.1) else draw.integer(1, 1990)
    return place(draw)


def attribute_answer(column: str, value: object) -> str:
    """The final answer for one attribute."""
    label = {"founded": "founding year"}.get(column, column)
    return f"The {label} is {value}."


def names_answer(names: list[str]) -> str:
    """The final answer for a list of cities."""
    if not names:
        return EMPTY
    return f"The city is {names[0]}." if len(names) == 1 else f"The cities are {', '.join(names)}."


def ask_attribute(draw: Draw, column: str, city: str) -> str:
    """A prompt for one attribute of one city."""
    if draw.chance(0.5):
        return _NATURAL[column].say(draw, city=city)
    return _ATTRIBUTE.say(draw, city=city, field=draw.pick(_ASKED[column]))


def facts_attribute(draw: Draw) -> Single:
    """One attribute of one city; now and then the city is not in the table."""
    city, column = place(draw), draw.pick(tuple(_ASKED))
    prompt, query = ask_attribute(draw, column, city), attribute_query(column, city)
    if draw.chance(0.12):
        return prompt, (select(query, [column], []),), EMPTY
    value = attribute_value(draw, column)
    return prompt, (select(query, [column], [[value]]),), attribute_answer(column, value)


def list_country_query(country: str) -> str:
    """The query for the cities of a country."""
    return f"SELECT name FROM cities WHERE country = '{country}' ORDER BY name"


def facts_list(draw: Draw) -> Single:
    """The names of cities by country, river, population or year."""
    kind = draw.below(0, 3)
    if kind == 0:
        country = place(draw)
        prompt, query = LIST_COUNTRY.say(draw, country=country), list_country_query(country)
    elif kind == 1:
        river = place(draw)
        prompt = LIST_RIVER.say(draw, river=river)
        query = f"SELECT name FROM cities WHERE river = '{river}' ORDER BY name"
    elif kind == 2:
        n = draw.integer(1000, 9999999)
        prompt = _MORE_THAN.say(draw, n=n)
        query = f"SELECT name FROM cities WHERE population > {n} ORDER BY name"
    else:
        n = draw.integer(2, 1990)
        prompt = _BEFORE.say(draw, n=n)
        query = f"SELECT name FROM cities WHERE founded < {n} ORDER BY name"
    count = 0 if draw.chance(0.12) else draw.below(1, 5)
    names = sorted({place(draw) for _ in range(count)})
    return prompt, (select(query, ["name"], [[name] for name in names]),), names_answer(names)


def count_query(condition: str) -> str:
    """The query for a number of cities."""
    return f"SELECT COUNT(*) FROM cities WHERE {condition}"


def count_answer(count: int) -> str:
    """The final answer for a number of cities."""
    return f"The count is {count}."


def facts_count(draw: Draw) -> Single:
    """A number of cities by country or population."""
    if draw.chance(0.6):
        country = place(draw)
        prompt, query = COUNT_COUNTRY.say(draw, country=country), count_query(f"country = '{country}'")
    else:
        n = draw.integer(1000, 9999999)
        prompt, query = _COUNT_MORE.say(draw, n=n), count_query(f"population > {n}")
    count = draw.below(0, 60)
    return prompt, (select(query, ["COUNT(*)"], [[count]]),), count_answer(count)


def _where(draw: Draw) -> tuple[str, str]:
    if draw.chance(0.35):
        return "", ""
    country = place(draw)
    return f" in {country}", f" WHERE country = '{country}'"


def facts_extreme(draw: Draw) -> Single:
    """The city that is largest, smallest, oldest or newest, of all or of a country."""
    column, order, ask = draw.pick(EXTREMES)
    text, condition = _where(draw)
    query = f"SELECT name FROM cities{condition} ORDER BY {column} {order} LIMIT 1"
    city = place(draw)
    return ask.say(draw, where=text), (select(query, ["name"], [[city]]),), names_answer([city])


def facts_total(draw: Draw) -> Single:
    """The total, highest or lowest population, of all or of a country."""
    function, label, ask = draw.pick(TOTALS)
    text, condition = _where(draw)
    query = f"SELECT {function}(population) FROM cities{condition}"
    value = draw.integer(1000, 99999999)
    step = select(query, [f"{function}(population)"], [[value]])
    return ask.say(draw, where=text), (step,), f"The {label} population is {value}."


# Notes and the ledger.

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


KINDS: tuple[tuple[str, float, Callable[[Draw], Single]], ...] = (
    ("calculator", 1.0, calculator),
    ("facts_attribute", 0.45, facts_attribute),
    ("facts_list", 0.25, facts_list),
    ("facts_count", 0.15, facts_count),
    ("facts_extreme", 0.2, facts_extreme),
    ("facts_total", 0.15, facts_total),
    ("notes", 0.6, notes),
    ("notes_many", 0.25, notes_many),
    ("ledger", 0.7, ledger),
)
"""Every kind of single call of a real tool, with its weight."""
