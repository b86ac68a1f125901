"""How products are cut up: every plan can be launched, and the rule picks one not far from the best there is."""

import csv
from collections.abc import Iterator, Mapping
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.backends.cuda import cubins, product
from runtime_svc.backends.cuda.cubins import Usage
from runtime_svc.backends.cuda.prefill_bench import MODELS
from tests.places import ROOT

MEASURED = ROOT / "docs" / "measurements" / "products-h200.csv"
KINDS = ("product", "gated", "heads")


@pytest.fixture(scope="module")
def compiled() -> Mapping[str, Usage]:
    return cubins.compiled("product").usage


@given(
    rows=st.integers(1, 2048),
    outputs=st.integers(1, 3000).map(lambda n: 8 * n),
    inputs=st.integers(1, 2000).map(lambda n: 8 * n),
    kind=st.sampled_from(KINDS),
)
def test_every_plan_fits_a_multiprocessor_and_gives_each_split_work(
    rows: int, outputs: int, inputs: int, kind: str
) -> None:
    chosen = product.plan(rows, outputs, inputs, 132, kind=kind)
    plans = list(product.plans(rows, outputs, inputs, kind=kind))
    assert chosen in plans
    for plan in plans:
        assert plan.slots >= 3
        assert plan.slots * plan.slot_bytes <= 227 * 1024
        assert 1 <= plan.splits <= plan.blocks
        tile = plan.columns // 2 if plan.gated else plan.columns
        assert 2 * plan.units * product.ROWS * tile >= plan.splits * rows * outputs


@pytest.mark.parametrize("kind", KINDS)
def test_every_plan_has_its_kernel(compiled: Mapping[str, Usage], kind: str) -> None:
    for plan in product.plans(300, 1024, 1024, kind=kind):
        assert plan.kernel in compiled
        warpgroups = -(-plan.threads // 128)
        assert compiled[plan.kernel].registers * warpgroups * 128 <= 65536


def _measured() -> Iterator[tuple[Iterator[product.Plan], dict[tuple[int, int], float]]]:
    """The plans of each shape with what they took, in the run which the rule's numbers were fitted to.

    That run also tried rings of three slots, which no plan has.
    """
    with MEASURED.open() as file:
        found = [row for row in csv.DictReader(file) if row["run"] == "1" and row["slots"] != "3"]
    for (model, rows, kind), group in groupby(found, lambda r: (r["model"], int(r["rows"]), r["product"])):
        c = MODELS[model]
        outputs, inputs = {
            "qkv": (c.qkv_width, c.hidden),
            "o": (c.hidden, c.heads * c.head_dim),
            "gu": (c.ffn, c.hidden),
            "down": (c.hidden, c.ffn),
        }[kind]
        times = {(int(r["columns"]), int(r["splits"])): float(r["us"]) for r in group}
        yield product.plans(rows, outputs, inputs, kind="gated" if kind == "gu" else "product"), times


def test_the_rule_chooses_what_measured_well() -> None:
    taken = best = 0.0
    for plans, times in _measured():
        known = [plan for plan in plans if (plan.columns, plan.splits) in times]
        chosen = min(known, key=lambda plan: plan.clocks(132))
        taken += times[chosen.columns, chosen.splits]
        best += min(times.values())
    assert best <= taken <= 1.03 * best
