"""What `make split-host` holds against what: the published counts, the counters of the link, missing programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.namespaces.host import Host
from deploy.namespaces.making import Hosts
from deploy.namespaces.switch import Flow, Switch
from deploy.split_host.debian import install_missing
from deploy.split_host.link import Counted, Crossing, HopPlace, crossings, refuse_uncrossed
from deploy.split_host.published import PUBLISHED_ROWS
from deploy.split_host.table import HEADINGS, Row, lines_of
from matrices.evidence.campaign import MARGIN, Options, plan_campaign
from matrices.spec.profiles import select_profiles
from treni.errors import Code, TreniError

HOSTS = Hosts(
    by_name={
        name: Host(name=name, address=address, pid=0)
        for name, address in {"cpu": "10.0.0.1", "gpu": "10.0.0.2"}.items()
    },
    switch=Switch(pid=0),
)


def flow(caller: str, server: str, port: int, packets: int) -> Flow:
    return Flow(
        caller=HOSTS[caller].address,
        server=HOSTS[server].address,
        port=port,
        packets_to=packets,
        bytes_to=100 * packets,
        packets_back=2 * packets,
        bytes_back=200 * packets,
    )


def crossing(caller: str, server: str, packets: int, back: int) -> Crossing:
    return Crossing(
        hop="model hop",
        caller=caller,
        server=server,
        packets_to=packets,
        bytes_to=packets,
        packets_back=back,
        bytes_back=back,
    )


def test_the_published_counts_follow_from_the_schedules(tmp_path: Path) -> None:
    options = Options(
        suite="core",
        runs=12,
        seed=0,
        concurrency=1,
        topology="local",
        backend="numpy",
        model_dir=None,
        idempotency=True,
        margin=MARGIN,
        restarts=1,
        toxiproxy=None,
    )
    campaign = plan_campaign(tmp_path, options, select_profiles("p00..p05"))
    predicted = {one.cell: one for one in campaign.expectations if one.cell != "aa"}
    assert predicted.keys() == PUBLISHED_ROWS.keys()
    for name, row in PUBLISHED_ROWS.items():
        errors = predicted[name].errors("external")
        assert round(errors / 48, 4) == row.errors
        assert round(predicted[name].retries_of_successes("external") / (48 - errors), 3) == row.retries
        assert predicted[name].errors("internal") == 0


def test_a_hop_is_what_was_counted_between_its_hosts_at_its_port_meanwhile() -> None:
    places = [
        HopPlace(hop="model hop", caller="cpu", server="gpu", port=7101),
        HopPlace(hop="tool hop", caller="cpu", server="cpu", port=7103),
    ]
    before = Counted(traffic={}, flows=(flow("cpu", "gpu", 7101, 5),))
    after = Counted(
        traffic={},
        flows=(flow("cpu", "gpu", 7101, 12), flow("cpu", "gpu", 7102, 99), flow("gpu", "cpu", 7101, 99)),
    )
    model, tool = crossings(HOSTS, places, before, after)
    assert (model.packets_to, model.bytes_to, model.packets_back, model.bytes_back) == (7, 700, 14, 1400)
    assert (tool.packets_to, tool.bytes_to, tool.packets_back, tool.bytes_back) == (0, 0, 0, 0)
    refuse_uncrossed([model, tool])


@pytest.mark.parametrize(
    "found",
    [
        crossing("cpu", "gpu", 0, 0),
        crossing("cpu", "gpu", 9, 0),
        crossing("cpu", "gpu", 0, 9),
        crossing("cpu", "cpu", 9, 9),
    ],
)
def test_a_hop_that_did_not_cross_and_one_that_had_not_to_are_refused(found: Crossing) -> None:
    with pytest.raises(TreniError) as raised:
        refuse_uncrossed([found])
    assert raised.value.kind == "link_not_crossed"
    assert "model hop" in str(raised.value)


def test_a_row_has_the_published_figures_where_there_are_any() -> None:
    rows = [
        Row(
            profile=profile,
            ratios=(1.0456, None),
            errors=(0.0833, 0.0833),
            retries=(0.1818, 0.1818),
            verdicts=("inconclusive", "external slower"),
        )
        for profile in ("p04", "mine")
    ]
    known, unknown = lines_of(rows)
    assert len(known) == len(unknown) == len(HEADINGS)
    assert known[1:7] == ("1.046 / -", "1.087", "0.0833 / 0.0833", "0.0833", "0.182 / 0.182", "0.182")
    assert unknown[2::2][:3] == ("-", "-", "-")


def test_a_machine_without_apt_get_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TreniError) as raised:
        install_missing({"nft": "nftables", "sshd": "openssh-server"})
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert "nftables, openssh-server" in str(raised.value)


def test_a_user_who_may_not_install_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: program if program == "apt-get" else None)
    monkeypatch.setattr("deploy.split_host.debian._LOCK", tmp_path / "absent" / "lock")
    with pytest.raises(TreniError) as raised:
        install_missing({"nft": "nftables"})
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert "nftables" in str(raised.value)
