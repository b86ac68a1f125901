"""Pydantic AI against the runtime: two streamed turns, each with a tool call, a typed answer, and embeddings.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/clients/pydantic_ai_client.py http://127.0.0.1:8000/v1 treni-tiny
"""

import asyncio
import json
import random
import sys

from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

SHELVES = {part: random.randint(100, 999) for part in ("Conest", "Taorest")}


class Shelf(BaseModel):
    """Where a part lies."""

    shelf: int


def get_part_shelf(name: str) -> str:
    """Finds the shelf of a part."""
    return json.dumps({"shelf": SHELVES[name]})


async def main(url: str, name: str) -> None:
    """Asks for both shelves in one conversation; only the tool knows them."""
    provider = OpenAIProvider(base_url=url, api_key="none")
    model = OpenAIChatModel(name, provider=provider)
    agent, history = Agent(model, tools=[get_part_shelf]), []
    for part, shelf in SHELVES.items():
        async with agent.run_stream(f"What is the shelf of the part {part}?", message_history=history) as run:
            answer = "".join([text async for text in run.stream_text(delta=True)])
        print(answer)
        if str(shelf) not in answer:
            sys.exit(f"expected the shelf {shelf}, which the tool told")
        history = run.all_messages()
    typed = await Agent(model, output_type=NativeOutput(Shelf)).run("The shelf is 7. What is the shelf?")
    print(repr(typed.output))
    vectors = await Embedder(OpenAIEmbeddingModel(name, provider=provider)).embed_documents(["one", "two"])
    print(len(vectors.embeddings), "vectors of", len(vectors.embeddings[0]))


asyncio.run(main(*sys.argv[1:]))
