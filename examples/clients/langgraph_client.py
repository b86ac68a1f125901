"""LangGraph against the runtime: two streamed turns, each with a tool call, a typed answer, and embeddings.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/clients/langgraph_client.py http://127.0.0.1:8000/v1 treni-tiny
"""

import random
import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

SHELVES = {part: random.randint(100, 999) for part in ("Conest", "Taorest")}


class Shelf(BaseModel):
    """Where a part lies."""

    shelf: int


@tool
def get_part_shelf(name: str) -> dict[str, int]:
    """Finds the shelf of a part."""
    return {"shelf": SHELVES[name]}


def main(url: str, name: str) -> None:
    """Asks for both shelves in one conversation; only the tool knows them."""
    chat = ChatOpenAI(base_url=url, model=name, api_key="none", stream_usage=True)
    asking = chat.bind_tools([get_part_shelf])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [asking.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([get_part_shelf]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    agent = graph.compile(checkpointer=InMemorySaver())
    for part, shelf in SHELVES.items():
        said = {"messages": [("user", f"What is the shelf of the part {part}?")]}
        chunks = agent.stream(said, {"configurable": {"thread_id": "one"}}, stream_mode="messages")
        answer = "".join(chunk.text for chunk, place in chunks if place["langgraph_node"] == "model")
        print(answer)
        if str(shelf) not in answer:
            sys.exit(f"expected the shelf {shelf}, which the tool told")
    print(repr(chat.with_structured_output(Shelf).invoke("The shelf is 7. What is the shelf?")))
    # Texts, not token ids, which are another model's.
    embeddings = OpenAIEmbeddings(base_url=url, model=name, api_key="none", check_embedding_ctx_length=False)
    vectors = embeddings.embed_documents(["one", "two"])
    print(len(vectors), "vectors of", len(vectors[0]))


main(*sys.argv[1:])
