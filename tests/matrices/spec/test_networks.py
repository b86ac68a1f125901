"""Network profiles as files: those that ship, what is refused and by which key, and how one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from matrices.planning.network_rules import refuse_unlike_plan
from matrices.planning.plan import PlannedCell, plan_cell
from matrices.spec.networks import (
    Network,
    NetworkProfile,
    bundled_networks,
    load_network,
    named,
    parse_networks,
)
from matrices.spec.profiles import Profile
from matrices.spec.suites import load_suite
from tests.places import ROOT
from treni.errors import Code, TreniError

WHOLE = 'name = "mine"\ntitle = "Here to there"\nrtt = "20ms"\njitter = "1ms"\nloss = 0.01\n'


def test_the_bundled_ones_are_named_after_their_files_and_say_where_a_figure_is_from() -> None:
    files = {path.stem: path for path in (ROOT / "matrices" / "networks").glob("*.toml")}
    assert set(files) == set(bundled_networks()) >= {"lan", "eu-us", "us-us"}
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        assert load_network(path).name == name
        if bundled_networks()[name].loss == 0:
            assert "https://" in text.partition("rtt")[0]


def test_what_is_declared_is_kept_in_the_words_of_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(WHOLE, encoding="utf-8")
    network = load_network(path)
    assert (network.least_s, network.most_s) == pytest.approx((0.019, 0.021))
    assert network.words == "20 ms ± 1 ms, 0.01 of packets lost"
    assert NetworkProfile.model_validate_json(network.model_dump_json()) == network
    assert parse_networks(str(path)) == {"model": network, "tool": network}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (WHOLE.replace('"20ms"', "20"), "rtt"),
        (WHOLE.replace('"20ms"', '"20"'), "rtt"),
        (WHOLE.replace('"20ms"', "0.02"), "rtt"),
        (WHOLE.replace('"20ms"', '"0ms"'), "round trip over 0"),
        (WHOLE.replace('"20ms"', '"20s"'), "rtt"),
        (WHOLE.replace('"1ms"', '"21ms"'), "jitter"),
        (WHOLE.replace("0.01", "1.0"), "loss"),
        (WHOLE.replace("0.01", "-0.1"), "loss"),
        (WHOLE.replace('"mine"', '"Mine!"'), "name"),
        (WHOLE.replace("title", "titel"), "title"),
        (WHOLE + "bandwidth = 3\n", "bandwidth"),
        ("rtt = ", "mine.toml"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TreniError) as caught:
        load_network(path)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert key in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_network_is_asked_for_every_hop_or_for_some() -> None:
    both = parse_networks("eu-us")
    assert {hop: one.name for hop, one in both.items()} == {"model": "eu-us", "tool": "eu-us"}
    some = parse_networks("tool=lan, model=us-us")
    assert {hop: one.name for hop, one in some.items()} == {"model": "us-us", "tool": "lan"}
    assert named((hop, one.name) for hop, one in both.items()) == "eu-us"
    assert named((hop, one.name) for hop, one in some.items()) == "tool=lan model=us-us"
    assert named([("model", "eu-us")]) == "model=eu-us"


@pytest.mark.parametrize(
    "text", ["moon", "", "agent=lan", "tool=lan,tool=lan", "tool=", "tool=moon", "tool=lan,"]
)
def test_a_network_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TreniError) as caught:
        parse_networks(text)
    assert caught.value.code is Code.INVALID_ARGUMENT


def cell(*rules: Mapping[str, object], **policy: object) -> PlannedCell:
    profile = Profile.model_validate(
        {
            "name": "n",
            "title": "t",
            "policy": {"tool_timeout": "1s", **policy},
            "faults": {"site": "hop", "by": "request", "rules": list(rules)},
        }
    )
    return plan_cell(profile, load_suite("tool_only"), runs=3)


def away(rtt_s: float, jitter_s: float = 0.0, loss: float = 0.0) -> NetworkProfile:
    return NetworkProfile(name="away", title="t", rtt=rtt_s, jitter=jitter_s, loss=loss)


def late(delay: str) -> Mapping[str, object]:
    return {"kind": "latency", "delay": delay, "every": 3}


@pytest.mark.parametrize(
    ("planned", "network", "kind"),
    [
        (cell(), away(0.067, 0.002), ""),
        (cell(), away(0.067, loss=0.01), "emulation_loss"),
        (cell(), away(0.0005), "emulation_too_fine"),
        (cell(), away(0.067, 0.0005), "emulation_too_fine"),
        (cell(run_timeout="60s"), away(0.49, 0.01), ""),
        (cell(), away(0.49, 0.02), "network_too_slow"),
        (cell(run_timeout="4s"), away(0.067), "network_too_slow"),
        (cell(late("900ms")), away(0.067), ""),
        (cell(late("940ms")), away(0.067), "network_beside_fault"),
        # From the timeout on it is an error either way.
        (cell(late("1s")), away(0.067), ""),
        (cell({"kind": "stall", "direction": "request", "every": 3}), away(0.067), ""),
    ],
)
def test_what_would_end_otherwise_over_the_network_is_refused_before_it_runs(
    planned: PlannedCell, network: NetworkProfile, kind: str
) -> None:
    networks = {"tool": network}
    if kind == "":
        refuse_unlike_plan(planned, networks, topology="local")  # type: ignore[arg-type]
        return
    with pytest.raises(TreniError) as caught:
        refuse_unlike_plan(planned, networks, topology="local")  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.kind) == (Code.INVALID_ARGUMENT, kind)


def test_nothing_is_emulated_where_there_is_a_network() -> None:
    refuse_unlike_plan(cell(), {}, topology="hosts")
    with pytest.raises(TreniError) as caught:
        refuse_unlike_plan(cell(), {"tool": away(0.067)}, topology="hosts")
    assert caught.value.kind == "network_is_real"


def test_a_network_of_no_time_is_none() -> None:
    with pytest.raises(ValueError, match="over 0"):
        Network(rtt=0.0)
