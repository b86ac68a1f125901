"""The campaign that benches of the routing take their services from: p00 on this machine, on the CPU."""

from __future__ import annotations

from pathlib import Path

from matrices.arms.parts import ONE_OF_EACH, Replicas
from matrices.evidence.campaign import MARGIN, Campaign, Options, plan_campaign
from matrices.running.preflight import refuse_impossible
from matrices.spec.profiles import select_profiles


def bench_campaign(
    folder: Path, model_dir: str, *, concurrency: int = 1, replicas: Replicas = ONE_OF_EACH
) -> Campaign:
    """A campaign of p00 in the folder, which is not written to; its last cell is that of p00.

    Raises `TreniError` for what this machine has not.
    """
    options = Options(
        suite="core",
        runs=12,
        seed=0,
        concurrency=concurrency,
        topology="local",
        backend="numpy",
        model_dir=model_dir,
        idempotency=True,
        margin=MARGIN,
        restarts=1,
        toxiproxy=None,
        replicas=replicas,
    )
    campaign = plan_campaign(folder, options, select_profiles("p00"))
    refuse_impossible(campaign)
    return campaign
