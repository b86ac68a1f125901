"""Single calls of the calculator: expressions as typed, operations in words, small stories."""

from __future__ import annotations

from fractions import Fraction

from runtime_svc.training.arithmetic import apply, expression, is_plain, operand
from runtime_svc.training.phrasing import Phrasings, phrasings
from runtime_svc.training.real_tools import Single, calculate, calculator_answer
from runtime_svc.training.vocabulary import Draw

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
={a} {things} came first and {b} came in the evening. How many {things} came in all?
={a} {things} were sold in the morning and {b} on the second day. How many {things} in all?
=On one shelf are {a} {things} and on another {b}. How many {things} in all?
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
