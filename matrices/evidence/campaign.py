"""A campaign's folder: what was asked for (manifest and suite), what happened (history), and what is made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic

from chaos.faults import Hop
from matrices.arms.arm import Comparison
from matrices.arms.parts import ONE_OF_EACH, Replicas
from matrices.arms.registry import DEFAULT, comparison_written
from matrices.evidence import chain, provenance
from matrices.evidence import events as ev
from matrices.evidence.begun_with import model_of
from matrices.evidence.history import History, read_history
from matrices.evidence.kept import (
    CONTAMINATION,
    HISTORY,
    MANIFEST,
    SUITE,
    inconsistent,
    missing,
    same_cells,
    same_files,
    same_rules,
)
from matrices.evidence.manifest import (
    VERSION,
    Manifest,
    ManifestCell,
    ManifestSuite,
    ManifestTask,
    dump_manifest,
    networks_of,
    read_manifest,
)
from matrices.evidence.outside import EndpointTold, endpoint_of, model_outside, outside_details, own_agent_of
from matrices.planning import plan
from matrices.planning.beat import beat_sentence
from matrices.planning.expectation import Expectation, site_of
from matrices.planning.expected import expectation_of
from matrices.planning.host_rules import refuse_uncertain
from matrices.planning.network_rules import refuse_unlike_plan
from matrices.planning.open_rules import refuse_unknowable
from matrices.planning.plan import PlannedCell
from matrices.planning.scale_rules import refuse_several
from matrices.planning.strike_rules import refuse_uncertain_strikes
from matrices.spec.networks import NetworkProfile
from matrices.spec.outside import AgentSpec, EndpointSpec
from matrices.spec.profiles import Profile
from matrices.spec.regions import longest_s
from matrices.spec.suites import Suite, load_suite, must_pass
from matrices.spec.sweeps import SweptCell
from matrices.spec.tooling import Tooling, tooling_written
from treni.errors import invalid_argument
from treni.storage import write_whole
from treni.v1 import inference_pb2

MARGIN = 0.05
"""The share of the baseline's mean latency within which arms count as equivalent, if a campaign does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a campaign is asked to do, resolved: everything a resumed one must repeat."""

    suite: str
    runs: int
    seed: int
    concurrency: int
    topology: str
    backend: str
    model_dir: str | None
    """A Hugging Face directory or a GGUF file; None: the bundled model, wherever the package is."""
    idempotency: bool
    margin: float
    """The share of the baseline's mean latency within which the arms count as equivalent."""
    restarts: int
    """How many groups of blocks have processes of their own; from 2 on, the group is the replicate."""
    toxiproxy: str | None
    """The API address of a toxiproxy server to use; None: one of our own for each cell."""
    comparison: Comparison = DEFAULT
    """The arms that are compared."""
    fault_seeds: int = 1
    """How many schedules each cell pools, with seeds that count up from the profile's."""
    sweep: tuple[SweptCell, ...] = ()
    """Which cells are variants of a profile, and what was set in them."""
    fencing: bool = True
    """Whether services refuse calls that are meant for another session of theirs."""
    constrain_calls: bool = False
    """Whether the arguments of tool calls are held to their schemas as they are decoded, in both arms."""
    networks: Mapping[Hop, NetworkProfile] = dataclasses.field(default_factory=dict)
    """The networks that hops are made to be like, by hop."""
    placement: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the topology says of where the services are; empty for one that needs to say nothing."""
    replicas: Replicas = ONE_OF_EACH
    """How many controllers and tool services the requests are spread over."""
    workers: int = 1
    """How many client processes send the requests; one is the harness itself."""
    tooling: Tooling = Tooling()  # noqa: RUF009
    """Where the tools come from, and what was listed there."""
    endpoint: EndpointSpec | None = None
    own_agent: AgentSpec | None = None
    """The endpoint of the arm whose model is outside, and the agent that is the user's own; None where no arm is it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """A campaign as planned. `cells` holds the A/A cell first, then the profiles in order."""

    folder: Path
    options: Options
    suite: Suite
    cells: tuple[PlannedCell, ...]

    @property
    def history_path(self) -> Path:
        """Where the history is."""
        return self.folder / HISTORY

    @property
    def expectations(self) -> tuple[Expectation, ...]:
        """What the checker compares each cell with."""
        return tuple(
            replace(
                expectation_of(cell, self.options.tooling),
                in_flight=self.options.concurrency,
                constrained=self.options.constrain_calls,
                networks=self.options.networks,
                away_s=longest_s(self.options.placement),
                must_pass=must_pass(suite=self.options.suite, model_dir=self.options.model_dir),
                remark=next(filter(None, (beat_sentence(cell, arm) for arm in reversed(cell.arms))), ""),
            )
            for cell in self.cells
        )


def plan_campaign(folder: Path, options: Options, profiles: Sequence[Profile]) -> Campaign:
    """The campaign that the options and profiles describe; touches nothing.

    Raises INVALID_ARGUMENT for options that cannot be run.
    """
    if not 1 <= options.restarts <= options.runs:
        raise invalid_argument(
            "restarts_invalid",
            expected=f"from 1 restart to one for each of the {options.runs} runs",
            got=str(options.restarts),
            todo="choose fewer --restarts, or more --runs",
        )
    suite = load_suite(options.suite)
    cells = _cells(profiles, suite, options)
    for cell in cells:
        refuse_uncertain(cell, concurrency=options.concurrency)
        refuse_unlike_plan(cell, options.networks, topology=options.topology)
        refuse_several(cell, concurrency=options.concurrency, workers=options.workers)
        refuse_uncertain_strikes(cell)
        refuse_unknowable(cell)
        faults = cell.profile.faults
        if options.concurrency > 1 and faults.rules and faults.by == "attempt":
            raise invalid_argument(
                "concurrency_not_exact",
                expected=f"a schedule by request in {cell.profile.name} for concurrency {options.concurrency}",
                got='by = "attempt", which is exact only for one request at a time',
                todo='use --concurrency 1, or a profile with by = "request"',
            )
    return Campaign(folder=folder, options=options, suite=suite, cells=cells)


def _cells(
    profiles: Sequence[Profile], suite: Suite, options: Options, *, version: int = VERSION
) -> tuple[PlannedCell, ...]:
    shape: dict[str, Any] = {
        "comparison": options.comparison,
        "runs": options.runs,
        "seed": options.seed,
        "restarts": options.restarts,
        "idempotency": options.idempotency,
        "replicas": options.replicas,
    }
    policy = plan.floor_policy(profiles if version >= 4 else ())
    aa = plan.plan_aa(suite, policy=policy, **shape)
    cells = (plan.plan_cell(p, suite, fault_seeds=options.fault_seeds, **shape) for p in profiles)
    return (aa, *cells)


def write_campaign(
    campaign: Campaign,
    info: inference_pb2.InfoResponse,
    *,
    toxiproxy: str,
    hosts: Mapping[str, Any],
    told: EndpointTold | None = None,
) -> ev.Opened:
    """Writes manifest and suite into the campaign's folder, the manifest last and whole; the history's first line.

    `hosts` has the machine and versions of each role that runs elsewhere, `told` is how an endpoint names its model.
    """
    options = campaign.options
    suite = "".join(task.model_dump_json() + "\n" for task in campaign.suite.tasks).encode()
    (campaign.folder / SUITE).write_bytes(suite)
    planned = campaign.cells[0].pairs
    manifest = Manifest(
        version=VERSION,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=provenance.commit(),
        versions={**provenance.versions(), "toxiproxy": toxiproxy},
        host=provenance.host(),
        model=model_of(info) if info.model else model_outside(told),
        topology=options.topology,
        suite=ManifestSuite(
            name=campaign.suite.name,
            tasks=tuple(
                ManifestTask(
                    id=pair.task.id,
                    family=pair.task.family,
                    expected_calls=pair.task.expected_calls,
                    side_effects=pair.task.side_effects,
                )
                for pair in planned
            ),
        ),
        runs=options.runs,
        seed=options.seed,
        concurrency=options.concurrency,
        idempotency=options.idempotency,
        margin=options.margin,
        restarts=options.restarts,
        contamination=CONTAMINATION,
        side_effect_tools=plan.SIDE_EFFECT_TOOLS,
        arms=(options.comparison.baseline, options.comparison.compared),
        cells=tuple(_manifest_cell(cell) for cell in campaign.cells),
        details={
            "backend": options.backend,
            "model_dir": options.model_dir,
            "suite": options.suite,
            "toxiproxy": options.toxiproxy,
            **({} if options.fencing else {"fencing": False}),
            **({"constrain_calls": True} if options.constrain_calls else {}),
            **({"network": _emulated(options.networks)} if options.networks else {}),
            **({"placement": options.placement} if options.placement else {}),
            **({"hosts": dict(hosts)} if hosts else {}),
            **options.tooling.written,
            **outside_details(options.endpoint, told, options.own_agent),
        },
        fault_seeds=options.fault_seeds,
        sweep=options.sweep,
        replicas=options.replicas,
        workers=options.workers,
    )
    written = dump_manifest(manifest)
    write_whole(campaign.folder / MANIFEST, written, durable=True)
    return ev.Opened(version=VERSION, manifest_sha256=chain.digest(written), suite_sha256=chain.digest(suite))


def load_campaign(folder: Path) -> tuple[Campaign, Manifest, History]:
    """The campaign that a folder holds, planned again from its manifest and suite, and its history so far.

    Raises INVALID_ARGUMENT if the folder holds none, DATA_LOSS if its files are damaged or are not those that the
    history began with.
    """
    for name in (MANIFEST, SUITE, HISTORY):
        if not (folder / name).is_file():
            raise missing(folder, name)
    history = read_history(folder / HISTORY)
    manifest = read_manifest(folder / MANIFEST)
    same_files(folder, history)
    same_rules(manifest)
    suite = load_suite(str(folder / SUITE)).model_copy(update={"name": manifest.suite.name})
    if lacking := {"suite", "backend", "model_dir", "toxiproxy"} - set(manifest.details):
        raise inconsistent(f"details with {', '.join(sorted(lacking))}", ", ".join(sorted(manifest.details)))
    options = Options(
        suite=str(manifest.details["suite"]),
        runs=manifest.runs,
        seed=manifest.seed,
        concurrency=manifest.concurrency,
        topology=manifest.topology,
        backend=str(manifest.details["backend"]),
        model_dir=manifest.details["model_dir"],
        idempotency=manifest.idempotency,
        margin=manifest.margin,
        restarts=manifest.restarts,
        toxiproxy=manifest.details["toxiproxy"],
        comparison=comparison_written(*manifest.arms),
        fault_seeds=manifest.fault_seeds,
        sweep=manifest.sweep,
        fencing=bool(manifest.details.get("fencing", True)),
        constrain_calls=bool(manifest.details.get("constrain_calls", False)),
        networks=networks_of(manifest),
        placement=manifest.details.get("placement", {}),
        replicas=manifest.replicas,
        workers=manifest.workers,
        tooling=tooling_written(manifest.details),
        endpoint=endpoint_of(manifest),
        own_agent=own_agent_of(manifest),
    )
    profiles = [_profile(cell) for cell in manifest.cells if cell.name != plan.AA_CELL]
    cells = _cells(profiles, suite, options, version=manifest.version)
    campaign = Campaign(folder=folder, options=options, suite=suite, cells=cells)
    same_cells(manifest, tuple(_manifest_cell(cell) for cell in campaign.cells))
    return campaign, manifest, history


def _manifest_cell(cell: PlannedCell) -> ManifestCell:
    profile = cell.profile
    dumped = profile.model_dump(mode="json", exclude_none=True)
    return ManifestCell(
        name=cell.name,
        profile=profile.name,
        title=profile.title,
        arms=cell.arms,
        site=site_of(cell.counters),
        policy=dumped["policy"],
        schedule=dumped["faults"],
        schedule_hash=_hashes(cell),
    )


def _profile(cell: ManifestCell) -> Profile:
    data = {"name": cell.profile, "title": cell.title, "policy": cell.policy, "faults": cell.schedule}
    try:
        return Profile.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise inconsistent(
            f"the profile of {cell.name}: {where}: {first['msg']}", repr(first["input"])
        ) from None


def _emulated(networks: Mapping[Hop, NetworkProfile]) -> dict[str, Any]:
    return {"emulated": True, "hops": {hop: one.model_dump(mode="json") for hop, one in networks.items()}}


def _hashes(cell: PlannedCell) -> dict[str, str]:
    return {arm: cell.digest(arm) for arm in cell.arms}
