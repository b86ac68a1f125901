"""The four tools of `tools_svc` as the model sees them, calls of them, and the answers that end their tasks.

Results have exactly the form that the real tools give. A test compares the descriptions with `tools_svc`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from runtime_svc.training.arithmetic import as_number
from runtime_svc.training.dialogue import Step, tool

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
