"""What a campaign was: resolved configuration, versions, host, schedules; written once, before the first request."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from chaos.faults import Hop
from matrices.arms.arm import Arm
from matrices.arms.parts import ONE_OF_EACH, Replicas
from matrices.arms.registry import DEFAULT
from matrices.spec import strict
from matrices.spec.networks import NetworkProfile
from matrices.spec.sweeps import SweptCell

VERSION: Literal[5] = 5
"""The format in which the manifest and the history beside it are written."""

Version = Literal[2, 3, 4, 5]
"""The formats that are read. Until 3 a manifest did not say what its arms are: there were no others than our two.
Until 4 the A/A cell had the default policy, whatever the profiles beside it had. Until 5 every task told its calls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestTask:
    """One task of the suite as the plan uses it: how many calls its exact answer needs, how many change state.

    `expected_calls` None: nobody told which calls it takes.
    """

    __pydantic_config__ = strict.STRICT

    id: str
    family: str
    expected_calls: int | None
    side_effects: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestSuite:
    """The suite by name, with its tasks in the order of the requests."""

    __pydantic_config__ = strict.STRICT

    name: str
    tasks: tuple[ManifestTask, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestCell:
    """One cell. `profile` is the full published name and stands in the tables; `name` is the short one.

    `arms` has the names of the baseline and the compared arm: such as ("internal", "external"), or in the A/A cell
    ("internal", "internal_b").
    `policy` and `schedule` are the resolved values as JSON (`schedule` None: no faults), `schedule_hash` the digest
    for each arm, `site` where the faults act.
    """

    __pydantic_config__ = strict.STRICT

    name: str
    profile: str
    title: str
    arms: tuple[str, str]
    site: Literal["none", "hop", "host", "tool", "agent"]
    policy: dict[str, Any]
    schedule: dict[str, Any] | None
    schedule_hash: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestModel:
    """The model that answered, as `InferenceService.Info` told it."""

    __pydantic_config__ = strict.STRICT

    name: str
    backend: str
    device: str
    dtype: str
    parameters: int
    checkpoint_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The whole campaign as resolved.

    `version` is the format that it was written in. `arms` are the arms of its comparison, the baseline first.
    `margin` is the share of the baseline's mean latency within which the arms count as equivalent. `restarts` is how
    many groups of blocks have processes of their own. Each cell but the A/A one has `runs` blocks for each of
    `fault_seeds` schedules, whose seeds count up from the profile's. `sweep` says which cells are variants of a
    profile, and what was set in them. `replicas` says how many controllers and tool services the requests were spread
    over, `workers` how many client processes sent them.
    `contamination` maps the name of a block condition to the value above which the block is contaminated;
    `side_effect_tools` are the tools whose calls leave a row in the effects. `details` is free.
    """

    __pydantic_config__ = strict.STRICT

    version: Version
    created_utc: str
    commit: str
    versions: dict[str, str]
    host: dict[str, Any]
    model: ManifestModel
    topology: str
    suite: ManifestSuite
    runs: int
    seed: int
    concurrency: int
    idempotency: bool
    margin: float
    restarts: int
    fault_seeds: int
    contamination: dict[str, float]
    side_effect_tools: tuple[str, ...]
    cells: tuple[ManifestCell, ...]
    details: dict[str, Any]
    sweep: tuple[SweptCell, ...] = ()
    arms: tuple[Arm, Arm] = (DEFAULT.baseline, DEFAULT.compared)
    replicas: Replicas = ONE_OF_EACH
    workers: int = 1


_ADAPTER: pydantic.TypeAdapter[Manifest] = pydantic.TypeAdapter(Manifest)


def parse_manifest(data: bytes, *, name: str = "manifest.json") -> Manifest:
    """The manifest in `data`. Raises `TreniError` (`manifest_malformed`) that names `name` and the key."""
    return strict.parse(_ADAPTER, data, kind="manifest_malformed", where=name)


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file at `path`; see `parse_manifest`."""
    return parse_manifest(path.read_bytes(), name=str(path))


_NETWORKS: pydantic.TypeAdapter[dict[Hop, NetworkProfile]] = pydantic.TypeAdapter(dict[Hop, NetworkProfile])


def networks_of(manifest: Manifest) -> dict[Hop, NetworkProfile]:
    """The networks that the campaign's hops were made to be like, by hop; none where they were as they are.

    Raises `TreniError` (`manifest_malformed`).
    """
    hops = manifest.details.get("network", {}).get("hops", {})
    return strict.parse(
        _NETWORKS, json.dumps(hops).encode(), kind="manifest_malformed", where="details.network"
    )


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON, ready to be written."""
    text = json.dumps(dataclasses.asdict(manifest), ensure_ascii=False, allow_nan=False, indent=2)
    return text.encode() + b"\n"
