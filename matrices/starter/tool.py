"""The tools of this agent: each function under @tool is one, in both arms.

The model reads the function's name, its parameters with their types, and the first paragraph of its docstring. What the
function returns is the result; a ValueError is a refusal, which the model reads and may correct.
A function that changes anything says so: @tool(has_side_effects=True). It is then called once, however often the agent
tries.
"""

from tools_svc.functions import tool

SHELVES = {"Conest": "B7", "Taorest": "A12", "Crevaith": "C3", "Felder": "D9"}


@tool
def get_part_shelf(name: str) -> dict[str, str]:
    """Finds the shelf of a part."""
    if name not in SHELVES:
        raise ValueError(f"no part {name}")
    return {"shelf": SHELVES[name]}
