"""Whether the code and the model are those that a campaign was begun with."""

from __future__ import annotations

import dataclasses

from matrices.evidence import provenance
from matrices.evidence.manifest import Manifest, ManifestModel
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2


def refuse_other_versions(manifest: Manifest) -> None:
    """Raises FAILED_PRECONDITION (`version_changed`) unless this is the code that the campaign was begun with."""
    mine = {**provenance.versions(), "commit": provenance.commit().removesuffix("+dirty")}
    theirs = {**manifest.versions, "commit": manifest.commit.removesuffix("+dirty")}
    for name, version in mine.items():
        if theirs.get(name) != version:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "version_changed",
                expected=f"{name} {theirs.get(name) or '(none)'}, which the campaign was begun with",
                got=version or "(none)",
                todo="install what it was begun with, or begin another campaign",
            )


def refuse_other_model(expected: ManifestModel, info: inference_pb2.InfoResponse) -> None:
    """Raises FAILED_PRECONDITION (`model_changed`) unless the services serve what the campaign was begun with."""
    got = model_of(info)
    for field in dataclasses.fields(ManifestModel):
        if getattr(got, field.name) != getattr(expected, field.name):
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "model_changed",
                expected=f"{field.name} {getattr(expected, field.name)} of the model, as the campaign began",
                got=str(getattr(got, field.name)),
                todo="serve the weights that it was begun with, or begin another campaign",
            )


def model_of(info: inference_pb2.InfoResponse) -> ManifestModel:
    """The model as the manifest keeps it."""
    return ManifestModel(
        name=info.model,
        backend=info.backend,
        device=info.device,
        dtype=info.dtype,
        parameters=info.parameters,
        checkpoint_sha256=info.checkpoint_sha256,
    )
