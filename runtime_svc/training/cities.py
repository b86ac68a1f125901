"""Single calls of the SQL tool. The columns are the real ones; cities and their values are drawn."""

from __future__ import annotations

from runtime_svc.training.phrasing import Phrasings, phrasings
from runtime_svc.training.real_tools import EMPTY, Single, select
from runtime_svc.training.vocabulary import Draw

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
