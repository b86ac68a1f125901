"""OpenAI's client against LiteLLM's proxy before the runtime: two streamed turns with tool calls, and the rest.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/clients/litellm_proxy.py http://127.0.0.1:8000/v1 treni-tiny
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel

SHELVES = {part: random.randint(100, 999) for part in ("Conest", "Taorest")}
# What it would else fetch, or send home. It asks for no key: on loopback, and for as long as this runs.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
QUIET["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"


class Shelf(BaseModel):
    """Where a part lies."""

    shelf: int


class GetPartShelf(BaseModel):
    """Finds the shelf of a part."""

    name: str


@contextmanager
def proxy(url: str, name: str) -> Iterator[str]:
    """The address of a proxy before the runtime, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    upstream = {"model": f"openai/{name}", "api_base": url, "api_key": "none"}
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.yaml"  # JSON is YAML
        config.write_text(json.dumps({"model_list": [{"model_name": name, "litellm_params": upstream}]}))
        command = [
            Path(sys.executable).with_name("litellm"),
            "--config",
            config,
            "--host",
            "127.0.0.1",
            "--port",
            port,
        ]
        process = subprocess.Popen(command, stdout=sys.stderr, env=os.environ | QUIET)
        try:
            while not answers(f"http://127.0.0.1:{port}/health/liveliness"):
                if process.poll() is not None:
                    sys.exit("the proxy ended before it answered")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def answers(url: str) -> bool:
    """Whether a server answers there."""
    try:
        return urlopen(url).status == 200
    except URLError:
        return False


def main(url: str, name: str) -> None:
    """Asks for both shelves in one conversation; only the tool knows them."""
    client, messages = OpenAI(base_url=url, api_key="none"), []
    tool = pydantic_function_tool(GetPartShelf, name="get_part_shelf")
    for part, shelf in SHELVES.items():
        messages.append({"role": "user", "content": f"What is the shelf of the part {part}?"})
        while messages[-1]["role"] != "assistant":
            with client.chat.completions.stream(model=name, messages=messages, tools=[tool]) as stream:
                answer = stream.get_final_completion().choices[0].message
            messages.append(answer.model_dump(exclude_none=True))
            for call in answer.tool_calls or ():
                found = {"shelf": SHELVES[json.loads(call.function.arguments)["name"]]}
                messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(found)})
        print(answer.content)
        if str(shelf) not in answer.content:
            sys.exit(f"expected the shelf {shelf}, which the tool told")
    asked = [{"role": "user", "content": "The shelf is 7. What is the shelf?"}]
    typed = client.chat.completions.parse(model=name, messages=asked, response_format=Shelf)
    print(repr(typed.choices[0].message.parsed))
    vectors = client.embeddings.create(model=name, input=["one", "two"]).data
    print(len(vectors), "vectors of", len(vectors[0].embedding))


with proxy(*sys.argv[1:]) as address:
    main(address, sys.argv[2])
