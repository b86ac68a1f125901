"""Conversations in Hugging Face's form that the golden files are made of: every shape a template meets."""

from __future__ import annotations

import json
from typing import Any


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _string(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


CALCULATOR = _tool(
    "calculator",
    "Works out an arithmetic expression exactly.",
    {"expression": _string("numbers with + - * / and parentheses")},
    ["expression"],
)
FACTS = _tool(
    "facts_sql",
    "Runs one read-only SQL query on the table cities(name, country, population, founded, river).",
    {"query": _string("one SELECT statement")},
    ["query"],
)
NOTES = _tool(
    "notes_search",
    "Searches the notes and returns the best matches.",
    {
        "query": _string("words to look for"),
        "limit": {"type": "integer", "description": "how many", "minimum": 1, "maximum": 5},
    },
    ["query"],
)
LEDGER = _tool(
    "ledger_append",
    "Appends one entry to the ledger.",
    {
        "account": _string("one of the ledger's accounts"),
        "amount": {"type": "integer", "description": "whole units"},
    },
    ["account", "amount"],
)
ODD = _tool(
    "größe_lookup", 'Looks up a "size" <in> mm & inches — café.', {"näme": _string("é < 3 & 'x'")}, []
)

ALL = [CALCULATOR, FACTS, NOTES, LEDGER]


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _result(name: str, value: object) -> dict[str, Any]:
    return {"role": "tool", "name": name, "content": json.dumps(value, ensure_ascii=False)}


def _say(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _conversation(tools: list[dict[str, Any]], *messages: dict[str, Any]) -> dict[str, Any]:
    return {"tools": tools, "messages": list(messages)}


_SUM = _user("What is 17 * (4 + 9)?")
_CITY = _user("What is the population of Lisbon?")
_CITY_QUERY = {"query": "SELECT population FROM cities WHERE name = 'Lisbon'"}
_NOTE = _user("What do my notes say about the garden?")
_PAY = _user("Add 120 to the account rent.")

CONVERSATIONS: list[dict[str, Any]] = [
    _conversation([], _user("Hello")),
    _conversation([], _user("Repeat the word river three times.")),
    _conversation([], {"role": "system", "content": "Answer briefly."}, _user("Which is larger, 7 or 12?")),
    _conversation(ALL, _user("Say good morning to Ana.")),
    _conversation(ALL, _SUM),
    _conversation(list(reversed(ALL)), _SUM),
    _conversation([CALCULATOR], _SUM),
    _conversation([NOTES, LEDGER], _SUM),
    _conversation(ALL, _CITY),
    _conversation(ALL, _NOTE),
    _conversation(ALL, _PAY),
    _conversation([ODD, LEDGER], _user('Größe von Café-Türen, bitte: 3 < 4 & "so"?')),
    _conversation(
        ALL, _SUM, _call("calculator", {"expression": "17 * (4 + 9)"}), _result("calculator", {"value": 221})
    ),
    _conversation(
        ALL,
        _CITY,
        _call("facts_sql", _CITY_QUERY),
        _result("facts_sql", {"columns": ["population"], "rows": [[545796]]}),
    ),
    _conversation(
        ALL,
        _NOTE,
        _call("notes_search", {"query": "garden"}),
        _result("notes_search", {"hits": [{"note": "garden", "text": "Water the ferns on Friday."}]}),
    ),
    _conversation(
        ALL,
        _PAY,
        _call("ledger_append", {"account": "rentt", "amount": 120}),
        _result("ledger_append", {"error": 'expected a known account; got "rentt"; did you mean "rent"?'}),
    ),
    _conversation(
        ALL,
        _user("Take the population of Porto and add it to the account travel."),
        _call("facts_sql", {"query": "SELECT population FROM cities WHERE name = 'Porto'"}),
        _result("facts_sql", {"columns": ["population"], "rows": [[231800]]}),
    ),
    _conversation(ALL, _user("Hi"), _say("Hello."), _SUM),
    _conversation(
        ALL,
        _SUM,
        _call("calculator", {"expression": "17 * (4 + 9)"}),
        _result("calculator", {"value": 221}),
        _say("17 * (4 + 9) is 221."),
        _user("Now add 9 to that."),
    ),
    _conversation(
        [LEDGER, FACTS, CALCULATOR],
        {"role": "system", "content": "You keep the books."},
        _PAY,
        _call("ledger_append", {"account": "rent", "amount": 120}),
        _result("ledger_append", {"recorded": {"account": "rent", "amount": 120}}),
    ),
]
