"""The OpenAPI description: what is sent fits it, and schemathesis finds nothing against it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.limits import HANG_S
from tests.places import ROOT
from tests.proto.certificates import KEY, key_file
from tests.runtime_svc.http_front.front import MODEL, TOOLS, Front, asking, served

CHECKS = "tests.runtime_svc.http_front.schemathesis_checks"


@pytest.fixture(scope="module")
def described(front: Front) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{front.http}/openapi.json").json()
    return document


def check(described: dict[str, Any], name: str, value: object) -> None:
    """Holds a value to one of the description's schemas."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("more", [{}, {"tools": TOOLS}, {"logprobs": True, "top_logprobs": 2}])
def test_events_and_answers_are_as_described(
    front: Front, described: dict[str, Any], more: dict[str, Any]
) -> None:
    body = asking("Calculate 8 divided by 5.", max_tokens=40, **more)
    check(described, "ChatRequest", body)
    url = f"{front.http}/v1/chat/completions"
    check(described, "ChatCompletion", httpx.post(url, json=body, timeout=HANG_S).json())
    streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
    events = httpx.post(url, json=streamed, timeout=HANG_S).text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    for event in events[:-2]:
        check(described, "ChatChunk", httpx.Response(200, text=event.removeprefix("data: ")).json())


def test_bounds_are_described(described: dict[str, Any]) -> None:
    properties = described["components"]["schemas"]["ChatRequest"]["properties"]
    for name in ("max_tokens", "top_logprobs", "seed", "top_k", "thinking_token_budget"):
        assert {"minimum", "maximum"} <= set(properties[name]["anyOf"][0]), name
    assert properties["n"]["anyOf"][0]["const"] == 1


def test_other_answers_are_as_described(front: Front, described: dict[str, Any]) -> None:
    with httpx.Client(base_url=front.http, timeout=HANG_S) as client:
        check(described, "Models", client.get("/v1/models").json())
        check(described, "Model", client.get(f"/models/{MODEL}").json())
        check(described, "ErrorBody", client.get("/models/none").json())
        for form in ("float", "base64"):
            body = {"model": MODEL, "input": "x", "encoding_format": form}
            check(described, "EmbeddingsRequest", body)
            check(described, "EmbeddingsAnswer", client.post("/v1/embeddings", json=body).json())


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A process that asks for a key."""
    with served("--key-file", str(key_file(tmp_path_factory.mktemp("keyed"), KEY))) as running:
        yield running


WITH_KEY = f"Authorization: Bearer {KEY}"


def test_where_a_key_is_asked_for_is_described(keyed: Front, described: dict[str, Any]) -> None:
    with httpx.Client(
        base_url=keyed.http, headers={"Authorization": f"Bearer {KEY}"}, timeout=HANG_S
    ) as client:
        document = client.get("/openapi.json").json()
        assert document["paths"].keys() == described["paths"].keys()
        for path, item in document["paths"].items():
            for method, operation in item.items():
                answer = httpx.request(method, f"{keyed.http}{path}", timeout=HANG_S)
                assert (answer.status_code == 401) == ("security" in operation), path
                if answer.status_code == 401:
                    check(document, "ErrorBody", answer.json())
                    assert "401" in operation["responses"]
        client.headers.pop("authorization")
        assert client.get("/openapi.json").status_code == 401
    assert "securitySchemes" not in described["components"]


@pytest.mark.soak
@pytest.mark.parametrize("headers", [(), ("--header", WITH_KEY)], ids=["open", "keyed"])
def test_schemathesis_finds_nothing(
    front: Front, keyed: Front, tmp_path: Path, headers: tuple[str, ...]
) -> None:
    """Every operation, in every phase, by every check but one, which a check of ours does more closely."""
    program = Path(sys.executable).parent / "schemathesis"
    config = Path(__file__).parent / "schemathesis.toml"
    url = (keyed if headers else front).http
    command: list[str | Path] = [program, "--config-file", config, "run", f"{url}/openapi.json", *headers]
    command += ["--max-examples", os.environ.get("TRENI_EXAMPLES", "60"), "--seed", "1"]
    command += ["--exclude-checks", "positive_data_acceptance", "--request-timeout", str(HANG_S)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
    env = os.environ | {"SCHEMATHESIS_HOOKS": CHECKS, "PYTHONPATH": paths}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    print(ended.stdout[-4000:])
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
