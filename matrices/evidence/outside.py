"""What a manifest keeps of what is outside: the endpoint and what it told of its model, and the user's own agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel

from matrices.evidence.manifest import Manifest, ManifestModel
from matrices.spec.outside import AgentSpec, EndpointSpec
from treni.errors import Code, TreniError

Spec = TypeVar("Spec", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointTold:
    """How an endpoint named its model, and the fingerprint of its configuration ("" for none), before the campaign."""

    model: str
    fingerprint: str


def outside_details(
    endpoint: EndpointSpec | None, told: EndpointTold | None, agent: AgentSpec | None
) -> dict[str, Any]:
    """The entries of a manifest's details: no key is in them, only the name of the variable that has it."""
    details: dict[str, Any] = {}
    if endpoint is not None:
        details["endpoint"] = endpoint.model_dump(mode="json")
        if told is not None:
            details["endpoint_told"] = {"model": told.model, "fingerprint": told.fingerprint}
    if agent is not None:
        details["agent"] = agent.model_dump(mode="json")
    return details


def model_outside(told: EndpointTold | None) -> ManifestModel:
    """What is known of the model where no arm has an engine of ours."""
    name = "unknown" if told is None else told.model
    return ManifestModel(name=name, backend="none", device="", dtype="", parameters=0, checkpoint_sha256="")


def endpoint_of(manifest: Manifest) -> EndpointSpec | None:
    """The campaign's endpoint, None for none. Raises DATA_LOSS (`manifest_malformed`)."""
    return _read(EndpointSpec, manifest, "endpoint")


def own_agent_of(manifest: Manifest) -> AgentSpec | None:
    """The campaign's agent of the user's own, None for none. Raises DATA_LOSS (`manifest_malformed`)."""
    return _read(AgentSpec, manifest, "agent")


def told_of(manifest: Manifest) -> EndpointTold | None:
    """What the endpoint told of its model before the campaign, None without an endpoint."""
    told = manifest.details.get("endpoint_told")
    if not isinstance(told, dict):
        return None
    return EndpointTold(model=str(told.get("model", "")), fingerprint=str(told.get("fingerprint", "")))


def refuse_other_endpoint(manifest: Manifest, told: EndpointTold | None) -> None:
    """Raises FAILED_PRECONDITION (`model_differs`) where the endpoint has another model than when a campaign began."""
    before = told_of(manifest)
    if told is not None and before is not None and told.model != before.model:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "model_differs",
            expected=f"the model {before.model} behind the endpoint, as the campaign began",
            got=told.model,
            todo="begin another campaign: this one can't go on with another model",
        )


def _read(spec: type[Spec], manifest: Manifest, name: str) -> Spec | None:
    if name not in manifest.details:
        return None
    try:
        return spec.model_validate(manifest.details[name])
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise TreniError(
            Code.DATA_LOSS,
            "manifest_malformed",
            expected=f"details.{name}: {first['msg']}",
            got=".".join(map(str, first["loc"])),
            todo="restore the manifest; it was edited",
            definite=True,
        ) from None
