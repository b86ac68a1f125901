"""What a cell must be like for an emulated network: it ends as planned however long each way takes."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.emulation import refuse_unlike
from chaos.faults import Hop, Struck
from matrices.planning.plan import PlannedCell
from matrices.planning.schedules import policy_of
from matrices.spec.networks import NetworkProfile
from treni.errors import invalid_argument

SHARE = 0.5
"""The share of an attempt's timeout that the longest round trip may take: the rest is for whoever answers."""

MOST_CALLS = 32
"""How many calls of a run there has to be time for, each tried as often as the policy allows."""


def refuse_unlike_plan(cell: PlannedCell, networks: Mapping[Hop, NetworkProfile], *, topology: str) -> None:
    """Raises INVALID_ARGUMENT where the cell can't be run over the networks, or would end otherwise than without."""
    if networks and topology != "local":
        raise invalid_argument(
            "network_is_real",
            expected="--topology local: a network is emulated where there is none",
            got=topology,
            todo="leave --network out; docs/topologies.md says how a file of hosts declares what lies between them",
        )
    for hop, network in networks.items():
        refuse_unlike(network.name, rtt_s=network.rtt, jitter_s=network.jitter, loss=network.loss)
        _refuse_unreached(cell, hop, network)
        _refuse_out_of_time(cell, hop, network)


def _refuse_unreached(cell: PlannedCell, hop: Hop, network: NetworkProfile) -> None:
    for arm in cell.comparison:
        if hop in arm.hops and hop not in arm.faultable:
            raise invalid_argument(
                "network_out_of_reach",
                expected=f"arms whose {hop} hop goes through proxies, to be {network.name}",
                got=f"{arm.name}, whose does not",
                todo="leave that hop out of --network, or compare other arms",
            )


def _refuse_out_of_time(cell: PlannedCell, hop: Hop, network: NetworkProfile) -> None:
    policy = policy_of(cell.profile, seed=cell.seed)
    timeout_s = policy.timeout_s(hop)
    where = f"in {cell.profile.name}"
    if network.most_s > SHARE * timeout_s:
        raise invalid_argument(
            "network_too_slow",
            expected=f"a {hop}_timeout of at least {network.most_s / SHARE * 1e3:g} ms {where} for {network.name}",
            got=f"{timeout_s * 1e3:g} ms",
            todo="raise it in a profile of your own (--set policy.tool_timeout=2s), or choose a shorter way",
        )
    for schedule in cell.schedules:
        for kind in schedule.kinds if schedule.hop == hop else ():
            ending = kind.ending(Struck(timeout_s=timeout_s))
            if not ending.is_error and ending.least_s + network.most_s >= timeout_s:
                raise invalid_argument(
                    "network_beside_fault",
                    expected=f"a {kind.name} {where} that leaves the {network.name} network time within the timeout",
                    got=f"{ending.least_s * 1e3:g} ms and {network.most_s * 1e3:g} ms of {timeout_s * 1e3:g} ms",
                    todo="shorten the fault, or raise the timeout",
                )
    longest_s = MOST_CALLS * (policy.retries + 1) * network.most_s
    if longest_s > policy.run_timeout_s:
        raise invalid_argument(
            "network_too_slow",
            expected=f"a run_timeout {where} for {MOST_CALLS} calls over {network.name}, {longest_s:.1f} s",
            got=f"{policy.run_timeout_s:g} s",
            todo="raise it, or choose a shorter way",
        )
