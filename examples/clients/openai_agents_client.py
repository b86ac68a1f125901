"""OpenAI's Agents SDK against the runtime: two streamed turns, each with a tool call, and a typed answer.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/clients/openai_agents_client.py http://127.0.0.1:8000/v1 treni-tiny
"""

import asyncio
import json
import random
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel

SHELVES = {part: random.randint(100, 999) for part in ("Conest", "Taorest")}


class Shelf(BaseModel):
    """Where a part lies."""

    shelf: int


@function_tool
def get_part_shelf(name: str) -> str:
    """Finds the shelf of a part."""
    return json.dumps({"shelf": SHELVES[name]})


async def main(url: str, name: str) -> None:
    """Asks for both shelves in one conversation; only the tool knows them."""
    set_tracing_disabled(True)  # else it sends traces to OpenAI
    model = OpenAIChatCompletionsModel(name, AsyncOpenAI(base_url=url, api_key="none"))
    agent, conversation = Agent(name="shelves", model=model, tools=[get_part_shelf]), []
    for part, shelf in SHELVES.items():
        conversation.append({"role": "user", "content": f"What is the shelf of the part {part}?"})
        run = Runner.run_streamed(agent, conversation)
        deltas = [event.data.delta async for event in run.stream_events() if is_text(event)]
        print("".join(deltas))
        if str(shelf) not in "".join(deltas):
            sys.exit(f"expected the shelf {shelf}, which the tool told")
        conversation = run.to_input_list()
    typed = await Runner.run(
        Agent(name="typed", model=model, output_type=Shelf), "The shelf is 7. What is the shelf?"
    )
    print(repr(typed.final_output))


def is_text(event) -> bool:
    """Whether the event adds to the answer's text."""
    return event.type == "raw_response_event" and event.data.type == "response.output_text.delta"


asyncio.run(main(*sys.argv[1:]))
