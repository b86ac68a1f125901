"""OpenAI's own client against the runtime: a streamed answer, for which the model calls a tool of this file.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/openai_client.py http://127.0.0.1:8000/v1 "Calculate 8 divided by 5."
"""

from __future__ import annotations

import ast
import json
import operator
import sys
from fractions import Fraction
from typing import Any

from openai import OpenAI

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "Works out an arithmetic expression exactly.",
            "parameters": {
                "type": "object",
                "properties": {
                    "expression": {"type": "string", "description": "numbers with + - * / and parentheses"}
                },
                "required": ["expression"],
            },
        },
    }
]
OPERATORS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> str:
    """The result of the expression, or what is wrong with it, as the model reads it."""

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(value=int() | float() as number):
                return Fraction(str(number))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                result: Fraction = OPERATORS[type(op)](value(left), value(right))
                return result
        raise ValueError("numbers with + - * / and parentheses")

    try:
        return json.dumps({"result": float(value(ast.parse(expression, mode="eval").body))})
    except (ValueError, SyntaxError, ArithmeticError) as error:
        return json.dumps({"error": str(error)})


def main(url: str, prompt: str) -> None:
    """Asks, runs what the model calls, and asks again, until it answers."""
    client = OpenAI(base_url=url, api_key="none")
    model = client.models.list().data[0].id
    messages: list[Any] = [{"role": "user", "content": prompt}]
    while True:
        with client.chat.completions.stream(
            model=model, messages=messages, tools=TOOLS, prompt_cache_key="example"
        ) as stream:
            for event in stream:
                if event.type == "content.delta":
                    print(event.delta, end="", flush=True)
            message = stream.get_final_completion().choices[0].message
        messages.append(message)
        if not message.tool_calls:
            print()
            return
        for call in message.tool_calls:
            result = calculate(json.loads(call.function.arguments)["expression"])
            print(f"{call.function.name}({call.function.arguments}) gave {result}", file=sys.stderr)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    main(*sys.argv[1:])
