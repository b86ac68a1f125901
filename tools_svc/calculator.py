"""The calculator tool: a tokenizer and a precedence-climbing parser over exact rationals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tools_svc.protocol import CallInfo, Tool, ToolEntry, ToolOutput, ToolsConfig, make_spec
from tools_svc.suggest import clip
from treni.errors import TreniError, invalid_argument
from treni.v1.common_pb2 import ToolSpec

# There is no power operator, so no intermediate value has more digits than the expression: the length is what
# bounds time and memory.
MAX_CHARS = 500
MAX_DEPTH = 32
MAX_MAGNITUDE = 10**15
PLACES = 6
_SCALE: int = 10**PLACES

SPEC = make_spec(
    name="calculator",
    description="Works out an arithmetic expression exactly.",
    properties={"expression": {"type": "string", "description": "numbers with + - * / and parentheses"}},
    required=("expression",),
)

_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(?P<symbol>[-+*/()]))")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    position: int  # of its first character, from 1

    @property
    def is_number(self) -> bool:
        return self.text[0].isdigit() or self.text[0] == "."


class Calculator(Tool):
    """Evaluates +, -, *, /, unary minus, parentheses and decimals. Holds no state."""

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return SPEC

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """`{"value": number}`: an int when integral, else rounded half-even to at most 6 places."""
        return ToolOutput(result={"value": to_number(evaluate(arguments["expression"]))})


def evaluate(expression: str) -> Fraction:
    """The exact value of the expression. Raises INVALID_ARGUMENT with the position of what is wrong."""
    if len(expression) > MAX_CHARS:
        raise invalid_argument(
            "expression_too_long",
            expected=f"an expression of at most {MAX_CHARS} characters",
            got=f"{len(expression)} characters",
            todo="split it",
        )
    return _Parser(_tokenize(expression), end=len(expression) + 1).parse()


def to_number(value: Fraction) -> int | Decimal:
    """The number to answer: an int when integral after rounding half-even to 6 places, else a decimal without
    trailing zeros. Raises INVALID_ARGUMENT beyond `MAX_MAGNITUDE`.
    """  # noqa: D205
    if abs(value) > MAX_MAGNITUDE:
        raise invalid_argument(
            "result_too_large",
            expected=f"a result between -{MAX_MAGNITUDE} and {MAX_MAGNITUDE}",
            got="one beyond",
            todo="use smaller numbers",
        )
    scaled = round(value * _SCALE)
    if scaled % _SCALE == 0:
        return scaled // _SCALE
    return Decimal(scaled).scaleb(-PLACES).normalize()


def _tokenize(expression: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    end = len(expression.rstrip(" \t\r\n"))
    while at < end:
        match = _TOKEN.match(expression, at)
        if match is None:
            bad = at + len(expression[at:]) - len(expression[at:].lstrip(" \t\r\n"))
            raise _syntax("a number, an operator or a parenthesis", expression[bad], bad + 1)
        group = match.lastgroup or ""
        tokens.append(_Token(match.group(group), match.start(group) + 1))
        at = match.end()
    return tokens


class _Parser:
    """Precedence climbing: each level takes the operators that bind at least as tightly as it was asked to."""

    def __init__(self, tokens: list[_Token], *, end: int) -> None:
        self._tokens = tokens
        self._end = end
        self._next = 0

    def parse(self) -> Fraction:
        value = self._expression(lowest=1, depth=0)
        left_over = self._peek()
        if left_over is not None:
            raise _syntax("an operator or the end", left_over.text, left_over.position)
        return value

    def _expression(self, *, lowest: int, depth: int) -> Fraction:
        value = self._operand(depth)
        while True:
            operator = self._peek()
            if operator is None or _PRECEDENCE.get(operator.text, 0) < lowest:
                return value
            self._next += 1
            # One level tighter on the right: operators of equal precedence group to the left.
            right = self._expression(lowest=_PRECEDENCE[operator.text] + 1, depth=depth)
            value = _apply(operator, value, right)

    def _operand(self, depth: int) -> Fraction:
        token = self._peek()
        if token is None:
            raise _syntax("a number", "the end", self._end)
        if depth > MAX_DEPTH:
            raise invalid_argument(
                "expression_too_deep",
                expected=f"at most {MAX_DEPTH} parentheses and signs inside each other",
                got=f"more at character {token.position}",
                todo="simplify it",
            )
        self._next += 1
        if token.is_number:
            return Fraction(token.text)
        if token.text == "-":
            return -self._operand(depth + 1)
        if token.text == "(":
            value = self._expression(lowest=1, depth=depth + 1)
            closing = self._peek()
            if closing is None or closing.text != ")":
                got, at = ("the end", self._end) if closing is None else (closing.text, closing.position)
                raise _syntax(f'")" for the "(" at character {token.position}', got, at)
            self._next += 1
            return value
        raise _syntax("a number", token.text, token.position)

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None


def _apply(operator: _Token, left: Fraction, right: Fraction) -> Fraction:
    if operator.text == "+":
        return left + right
    if operator.text == "-":
        return left - right
    if operator.text == "*":
        return left * right
    if right == 0:
        raise invalid_argument(
            "division_by_zero",
            expected="a divisor other than 0",
            got=f'0 for the "/" at character {operator.position}',
            todo="correct the expression",
        )
    return left / right


def _syntax(expected: str, got: str, position: int) -> TreniError:
    return invalid_argument(
        "expression_syntax",
        expected=expected,
        got=f"{clip(got) if got == 'the end' else repr(clip(got))} at character {position}",
        todo="correct the expression",
    )


def _build(config: ToolsConfig) -> Tool:
    return Calculator()


ENTRY = ToolEntry(spec=SPEC, build=_build)
