"""Fixtures of the tool tests: a fresh ledger, a registry over it, and a way to call it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools_svc.protocol import ToolsConfig
from tools_svc.registry import Registry, build_registry
from treni.errors import TreniError
from treni.v1.tools_pb2 import CallToolRequest


@pytest.fixture
def config(tmp_path: Path) -> ToolsConfig:
    return ToolsConfig(ledger_path=tmp_path / "ledger.sqlite")


@pytest.fixture
def registry(config: ToolsConfig) -> Iterator[Registry]:
    with build_registry(config) as registry:
        yield registry


@pytest.fixture
def call(registry: Registry) -> Callable[..., Any]:
    """Calls a tool with Python arguments; the decoded result."""

    def call(name: str, **arguments: Any) -> Any:
        response = registry.call(CallToolRequest(name=name, arguments_json=json.dumps(arguments)))
        return json.loads(response.result_json)

    return call


@pytest.fixture
def refusal(call: Callable[..., Any]) -> Callable[..., TreniError]:
    """Calls a tool that has to refuse; the error."""

    def refusal(name: str, **arguments: Any) -> TreniError:
        with pytest.raises(TreniError) as caught:
            call(name, **arguments)
        assert caught.value.definite
        return caught.value

    return refusal
