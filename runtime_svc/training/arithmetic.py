"""Random arithmetic expressions and their values, as the calculator answers them."""

from __future__ import annotations

from fractions import Fraction

from runtime_svc.training.vocabulary import Draw

_PLACES = 6
_LIMIT = 10**12


def as_number(value: Fraction) -> int | float:
    """An int when integral after rounding half-even to 6 places, else that decimal."""
    unit: int = 10**_PLACES
    scaled = round(value * unit)
    return scaled // unit if scaled % unit == 0 else scaled / unit


def is_plain(value: Fraction) -> bool:
    """Whether the value prints without an exponent and exactly as a double."""
    limit = _LIMIT if value.denominator == 1 else 10**8
    return value == 0 or Fraction(1, 1000) < abs(value) < limit


def operand(draw: Draw, *, decimals: bool = True) -> str:
    """A number as text: mostly an integer of any length up to six digits."""
    if decimals and draw.chance(0.2):
        return draw.decimal()
    return str(draw.integer(0, 9999 if draw.chance(0.7) else 999999))


def expression(draw: Draw) -> tuple[str, Fraction]:
    """An expression of two to five operands as a user would type it, and its exact value."""
    while True:
        spaced = draw.chance(0.7)
        text, value, _ = _grow(draw, draw.pick((2, 2, 2, 3, 3, 4, 5)), " " if spaced else "")
        if value is not None and is_plain(value):
            return text, value


def apply(operator: str, left: Fraction, right: Fraction) -> Fraction | None:
    """The value of one operation; None for a division by zero."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return None if right == 0 else left / right


def _grow(draw: Draw, operands: int, space: str) -> tuple[str, Fraction | None, int]:
    """Text, value and binding strength (3 a number, 2 a product, 1 a sum) of a random expression."""
    if operands == 1:
        text = operand(draw)
        if draw.chance(0.05) and text != "0":
            return f"-{text}", -Fraction(text), 0
        return text, Fraction(text), 3
    operator = draw.pick("+-*/")
    strength = 1 if operator in "+-" else 2
    left_count = draw.below(1, operands - 1)
    left, left_value, left_strength = _grow(draw, left_count, space)
    right, right_value, right_strength = _grow(draw, operands - left_count, space)
    if left_value is None or right_value is None:
        return "", None, 0
    if left_strength < strength and not (left_strength == 0 and left_count == 1):
        left = f"({left})"
    if right_strength <= strength:
        right = f"({right})"
    text = f"{left}{space}{operator}{space}{right}"
    return text, apply(operator, left_value, right_value), strength
