from __future__ import annotations

import json
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tools_svc.calculator import MAX_CHARS, MAX_DEPTH, MAX_MAGNITUDE, evaluate, to_number
from tools_svc.registry import Registry
from treni.errors import Code, TreniError
from treni.v1.tools_pb2 import CallToolRequest


class Tree:
    """An expression with its own idea of its value and of the parentheses that it needs."""

    def __init__(self, text: str, value: Fraction, binds: int) -> None:
        self.text, self.value, self.binds = text, value, binds

    def inside(self, least: int) -> str:
        return self.text if self.binds >= least else f"({self.text})"


def number() -> st.SearchStrategy[Tree]:
    whole = st.integers(0, 9999).map(lambda n: Tree(str(n), Fraction(n), 9))
    decimal = st.tuples(st.integers(0, 999), st.integers(0, 999)).map(
        lambda p: Tree(f"{p[0]}.{p[1]:03d}", Fraction(p[0] * 1000 + p[1], 1000), 9)
    )
    return whole | decimal


def combine(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    spaces = st.sampled_from(["", " ", "  "])

    def binary(left: Tree, right: Tree, operator: str, space: str) -> list[Tree]:
        binds = 1 if operator in "+-" else 2
        text = f"{left.inside(binds)}{space}{operator}{space}{right.inside(binds + 1)}"
        if operator == "/":
            return [] if right.value == 0 else [Tree(text, left.value / right.value, binds)]
        value = {"+": left.value + right.value, "-": left.value - right.value, "*": left.value * right.value}
        return [Tree(text, value[operator], binds)]

    # A sign on the left operand too: "-3 + 5" is where it can swallow too much.
    signed = children | children.map(lambda tree: Tree(f"-{tree.inside(3)}", -tree.value, 3))
    pairs = st.builds(binary, signed, signed, st.sampled_from("+-*/"), spaces)
    bracketed = signed.map(lambda tree: Tree(f"({tree.text})", tree.value, 9))
    return pairs.filter(bool).map(lambda trees: trees[0]) | bracketed


@settings(max_examples=300)
@given(st.recursive(number(), combine, max_leaves=30))
def test_value_is_the_exact_value_of_the_tree(tree: Tree) -> None:
    assume(len(tree.text) <= MAX_CHARS)
    assert evaluate(tree.text) == tree.value


@given(st.fractions(min_value=-(10**9), max_value=10**9))
def test_rounding_is_half_even_to_six_places(value: Fraction) -> None:
    answer = to_number(value)
    assert abs(Fraction(answer) - value) <= Fraction(1, 2 * 10**6)
    if value.denominator == 1:
        assert answer == value
        assert type(answer) is int
    if isinstance(answer, Decimal):
        assert answer != answer.to_integral_value()
        assert not str(format(answer, "f")).endswith("0")


@given(st.integers(-(10**12), 10**12))
def test_ties_go_to_the_even_neighbour(n: int) -> None:
    value = Fraction(2 * n + 1, 2 * 10**6)
    expected = (Decimal(2 * n + 1) / Decimal(2 * 10**6)).quantize(
        Decimal("0.000001"), rounding=ROUND_HALF_EVEN
    )
    assert Fraction(to_number(value)) == Fraction(expected)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("10 - 4 - 3", "3"),
        ("100 / 10 / 5", "2"),
        ("-3 * -(2 + 1)", "9"),
        ("-3 + 5", "2"),
        ("-2 * 3 + 4", "-2"),
        ("2 - -3 - 1", "4"),
        ("--7", "7"),
        (".5 + 0.25", "0.75"),
        ("1/3", "0.333333"),
        ("2/3", "0.666667"),
        ("0.1 + 0.2", "0.3"),
        ("1/20000", "0.00005"),
        ("-1/10000000", "0"),
        ("123456789012.5 * 2", "246913578025"),
        ("123456789012345.678", "123456789012345.678"),
    ],
)
def test_results_as_the_model_reads_them(registry: Registry, expression: str, text: str) -> None:
    request = CallToolRequest(name="calculator", arguments_json=json.dumps({"expression": expression}))
    assert registry.call(request).result_json == f'{{"value": {text}}}'


@pytest.mark.parametrize(
    ("expression", "kind", "position"),
    [
        ("", "expression_syntax", 1),
        ("   ", "expression_syntax", 4),
        ("2 +", "expression_syntax", 4),
        ("2 ** 3", "expression_syntax", 4),
        ("2 3", "expression_syntax", 3),
        ("(2 + 3", "expression_syntax", 7),
        ("2 + 3)", "expression_syntax", 6),
        ("()", "expression_syntax", 2),
        ("2 + x", "expression_syntax", 5),
        ("1,000", "expression_syntax", 2),
        ("2 ^ 3", "expression_syntax", 3),
        ("1e9", "expression_syntax", 2),
        ("1.", "expression_syntax", 2),
        ("1.2.3", "expression_syntax", 4),
        ("٣ + 1", "expression_syntax", 1),
        ("__import__('os')", "expression_syntax", 1),
        ("4 / (2 - 2)", "division_by_zero", 3),
    ],
)
def test_what_is_wrong_is_named_with_its_position(expression: str, kind: str, position: int) -> None:
    with pytest.raises(TreniError, match=rf"at character {position}\b") as caught:
        evaluate(expression)
    assert (caught.value.code, caught.value.kind) == (Code.INVALID_ARGUMENT, kind)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("1" * (MAX_CHARS + 1), "expression_too_long"),
        ("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "expression_too_deep"),
        ("-" * (MAX_DEPTH + 1) + "1", "expression_too_deep"),
        (f"{MAX_MAGNITUDE} + 1", "result_too_large"),
        ("*".join(["9" * 40] * 12), "result_too_large"),
    ],
)
def test_bounds(refusal: Callable[..., TreniError], expression: str, kind: str) -> None:
    assert refusal("calculator", expression=expression).kind == kind


def test_the_largest_of_each_bound_is_accepted(call: Callable[..., Any]) -> None:
    assert call("calculator", expression="(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) == {"value": 1}
    assert call("calculator", expression=str(MAX_MAGNITUDE)) == {"value": MAX_MAGNITUDE}
    assert call("calculator", expression="0" * (MAX_CHARS - 1) + "7") == {"value": 7}


@given(st.text(alphabet="0123456789.+-*/() x", max_size=40))
def test_any_text_is_answered_or_refused(text: str) -> None:
    code = None
    try:
        value = evaluate(text)
    except TreniError as error:
        code = error.code
    assert code is Code.INVALID_ARGUMENT or (code is None and isinstance(value, Fraction))
