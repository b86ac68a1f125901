import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults import Latency, Reset, Stall, Status
from chaos.schedule import Rule
from chaos.when import Burst, Every, Rate
from matrices.planning.plan import plan_cell
from matrices.planning.schedules import schedules_of
from matrices.spec.profiles import (
    Profile,
    bundled_profiles,
    load_profile,
    select_profiles,
)
from matrices.spec.profiles_markdown import profiles_markdown
from matrices.spec.rules import parse_duration_s
from matrices.spec.suites import load_suite
from tests.places import ROOT
from treni.errors import Code, TreniError

PUBLISHED = {
    "p00_baseline": (None, None, 1),
    "p01_fail_mild": (10, None, 1),
    "p02_timeout_mild": (None, 10, 1),
    "p03_mixed_moderate": (5, 4, 1),
    "p04_mixed_aggressive": (2, 3, 1),
    "p05_mixed_aggressive_retry2": (2, 3, 2),
}


def _every(profile: Profile, kind: str) -> int | None:
    return next((rule.every for rule in profile.faults.rules if rule.kind == kind), None)


def test_bundled_profiles_are_the_published_ones() -> None:
    found = {
        p.name: (_every(p, "status"), _every(p, "stall"), p.policy.retries)
        for p in select_profiles("p00..p05")
    }
    assert found == PUBLISHED


def test_the_published_schedules_are_the_ones_that_were_published() -> None:
    """By digest: a campaign that was run before is judged by the same faults."""
    digests = {p.short: schedules_of(p, prefix=p.short)[0].digest[:12] for p in select_profiles("p01..p05")}
    assert digests == {
        "p01": "b18cecfc0a0a",
        "p02": "7bdc0fc29635",
        "p03": "a63147872671",
        "p04": "e87a6fcdab12",
        "p05": "2d804595ddbf",
    }


def test_a_rule_says_when_in_every_way(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "t"\n[faults]\nby = "request"\nseed = 3\n'
        '[[faults.rules]]\nkind = "status"\nevery = 4\nto_request = 8\n'
        '[[faults.rules]]\nkind = "reset"\nrate = 0.2\nfrom_request = 2\nto_request = 8\n'
        '[[faults.rules]]\nkind = "latency"\ndelay = "10ms"\n'
        "burst = { enter = 0.05, leave = 0.3, rate = 0.9, rate_outside = 0.01 }\n"
        '[[faults.rules]]\nkind = "stall"\ndirection = "request"\n'
        "burst = { enter = 0.05, leave = 0.3, rate = 1 }\n"
    )
    (schedule,) = schedules_of(load_profile(path), prefix="x", cycle=7)
    assert (schedule.seed, schedule.cycle) == (3, 7)
    assert schedule.rules == (
        Rule(kind=Status(), when=Every(every=4), to_request=8),
        Rule(kind=Reset(), when=Rate(rate=0.2), from_request=2, to_request=8),
        Rule(kind=Latency(delay_ms=10), when=Burst(enter=0.05, leave=0.3, rate=0.9, rate_outside=0.01)),
        Rule(kind=Stall(direction="request"), when=Burst(enter=0.05, leave=0.3, rate=1.0)),
    )


def test_the_drawn_profiles_strike_in_the_default_campaign() -> None:
    suite = load_suite("core")
    for profile in select_profiles("r01..r05"):
        prediction = plan_cell(profile, suite, runs=12).prediction("external")
        assert prediction is not None
        assert len(prediction.fault_ids) > 0


def test_the_docs_are_what_the_models_say() -> None:
    page = ROOT / "docs" / "profiles.md"
    assert page.read_text(encoding="utf-8") == profiles_markdown()


def test_twins_differ_only_in_site() -> None:
    bundled = bundled_profiles()
    for short in ("p01", "p02", "p03", "p04", "p05"):
        hop, tool = bundled[short], bundled[f"{short}t"]
        assert (hop.faults.site, tool.faults.site) == ("hop", "tool")
        assert hop.policy == tool.policy
        assert hop.faults.model_copy(update={"site": "tool"}) == tool.faults


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ("p00..p05", ["p00", "p01", "p02", "p03", "p04", "p05"]),
        ("p00,p04", ["p00", "p04"]),
        ("p04,p00,p04", ["p04", "p00"]),
        ("p01t..p03t", ["p01t", "p02t", "p03t"]),
        ("p03_mixed_moderate", ["p03"]),
        ("p02..p02, p05t", ["p02", "p05t"]),
    ],
)
def test_selection(selection: str, names: list[str]) -> None:
    assert [p.short for p in select_profiles(selection)] == names


def test_a_file_s_twin_is_one_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    rules = '[faults]\nsite = "tool"\n[[faults.rules]]\nkind = "status"\nevery = 3\n'
    path.write_text('name = "mine_own"\ntitle = "t"\ntwin = "h"\n' + rules)
    mine, twin = select_profiles(f"{path},{path}:h")
    assert (mine.name, twin.name, twin.short) == ("mine_own", "mineh_own", "mineh")
    assert twin.faults == mine.faults.model_copy(update={"site": "hop"})
    assert twin.title == "t; on the hop, which not every arm has"
    for wrong, says in ((f"{path}:t", "twin = 'h'"), (f"{path}:", "twin = ''")):
        with pytest.raises(TreniError, match=says):
            select_profiles(wrong)


def test_a_twin_whose_faults_cannot_stand_there_is_refused_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "m"\ntitle = "t"\ntwin = "t"\n[[faults.rules]]\nkind = "reset"\nevery = 3\n')
    with pytest.raises(
        TreniError, match=r"mine.toml, as twin = 't'.*rules.0.kind: reset acts at site hop only"
    ):
        load_profile(path)


@pytest.mark.parametrize("selection", ["", "p9", "p05..p00", "p00..", "p00..p09", "nofile.toml"])
def test_bad_selection_says_what_is_allowed(selection: str) -> None:
    with pytest.raises(TreniError) as caught:
        select_profiles(selection)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 1", ["colour", "unknown key", "policy", "faults"]),
        ('[policy]\ntool_timeout = "250"', ["policy.tool_timeout", "us, ms, s, m"]),
        ("[policy]\nretriez = 2", ["policy.retriez", "unknown key", "retries"]),
        ("[policy]\nretries = -1", ["policy.retries", "greater than or equal to 0"]),
        ("[policy]\nretries = true", ["policy.retries", "integer"]),
        ('[[faults.rules]]\nkind = "stal"\nevery = 2', ["faults.rules.0", "'stall'"]),
        ('[[faults.rules]]\nkind = "status"\nevery = 0', ["every", "greater than or equal to 1"]),
        ('[faults]\nsite = "moon"', ["faults.site", "'hop', 'tool' or 'host'"]),
        ("[faults]\nwarmup = 1.5", ["faults.warmup", "integer"]),
        ("[faults", ["TOML"]),
        (
            '[[faults.rules]]\nkind = "status"',
            ["faults.rules.0", "exactly one of every, rate, burst", "none"],
        ),
        ('[[faults.rules]]\nkind = "status"\nevery = 2\nrate = 0.1', ["exactly one", "every, rate"]),
        ('[[faults.rules]]\nkind = "status"\nrate = 0', ["rules.0.status.rate", "greater than 0"]),
        ('[[faults.rules]]\nkind = "status"\nrate = 1.5', ["rate", "less than or equal to 1"]),
        ('[[faults.rules]]\nkind = "status"\nrate = true', ["rate", "number"]),
        ('[[faults.rules]]\nkind = "status"\nrate = nan', ["rate", "got nan"]),
        (
            '[[faults.rules]]\nkind = "status"\nburst = {enter = 0.1, leave = 0.5, rat = 1}',
            ["burst.rate: Field required", "burst.rat", "unknown key", "rate_outside"],
        ),
        (
            '[[faults.rules]]\nkind = "latency"\nevery = 2\ndelay = "400us"',
            ["rules.0.latency", "delay: expected a whole number of ms; got 0.4"],
        ),
        ('[[faults.rules]]\nkind = "latency"\nevery = 2\ndelay = 0.25', ["latency.delay", "unit", "0.25"]),
        ('[[faults.rules]]\nkind = "latency"\nevery = 2\ndelay = nan', ["latency.delay", "unit", "nan"]),
        ('[[faults.rules]]\nkind = "latency"\nevery = 2\ndelay = true', ["latency.delay", "unit", "True"]),
        (
            '[[faults.rules]]\nkind = "latency"\nevery = 2\ndelay = "-1ms"',
            ["latency.delay", "unit", "'-1ms'"],
        ),
        (f'[[faults.rules]]\nkind = "latency"\nevery = 2\ndelay = "{"9" * 400}s"', ["latency.delay", "3600"]),
        ('[[faults.rules]]\nkind = "hang"\nevery = 2\nduration = "61s"', ["hang.duration", "60"]),
        ('[[faults.rules]]\nkind = "bandwidth"\nevery = 2\nrate_kb_s = 10000000000', ["bandwidth.rate_kb_s"]),
        (
            f'[[faults.rules]]\nkind = "bandwidth"\nevery = 2\nrate_kb_s = 0x{"f" * 5000}',
            ["bandwidth.rate_kb_s", "too long to print"],
        ),
        (f'[[faults.rules]]\nkind = "reset"\nevery = {"9" * 5000}', ["TOML", "4300 digits"]),
        (f"[policy]\nretries = {'9' * 25}", ["policy.retries", "less than or equal to 10"]),
        ("[policy]\nbackoff_max = 2.0", ["policy.backoff_max", "unit"]),
        ("[policy]\nbackoff_multiplier = inf", ["policy.backoff_multiplier", "10"]),
        ('[policy]\ntool_timeout = "250ms\\n"', ["policy.tool_timeout", "unit"]),
        (
            '[faults]\nsite = "tool"\n[[faults.rules]]\nkind = "reset"\nevery = 2',
            ["rules.0.kind", "reset acts at site hop only"],
        ),
        (
            '[faults]\nsite = "tool"\nby = "request"\n[[faults.rules]]\nhop = "model"\nkind = "crash"\nrate = 1',
            ["rules.0.kind", "crash acts at site tool only"],
        ),
        ('[faults]\nsite = "tool"\nhop = "model"', ["hop: expected", "tool"]),
        ('[[faults.rules]]\nkind = "status"\nrate = 0.1', ["rules.0.rate", 'by = "request"']),
        (
            '[[faults.rules]]\nkind = "status"\nburst = {enter = 0.1, leave = 0.5, rate = 1}',
            ["rules.0.burst", 'by = "request"'],
        ),
        (
            '[[faults.rules]]\nkind = "status"\nevery = 2\nfrom_request = 1\nto_request = 9',
            ["rules.0.from_request, rules.0.to_request", 'by = "request"'],
        ),
        (
            '[faults]\nby = "request"\n[[faults.rules]]\nkind = "status"\nrate = 1\n'
            "from_request = 9\nto_request = 9",
            ["to_request", "over from_request, 9"],
        ),
    ],
)
def test_bad_profile_names_file_key_and_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\ntitle = "t"\n{text}\n')
    with pytest.raises(TreniError) as caught:
        load_profile(path)
    for word in ["mine.toml", *words]:
        assert word in str(caught.value)


def test_own_profile_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine_own"\ntitle = "t"\n[[faults.rules]]\nkind = "status"\nevery = 3\n')
    profile = select_profiles(str(path))[0]
    assert profile.short == "mine"
    assert profile.faults.rules[0].every == 3


@given(
    amount=st.integers(1, 10_000),
    unit=st.sampled_from([("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)]),
)
def test_durations(amount: int, unit: tuple[str, float]) -> None:
    assert parse_duration_s(f"{amount}{unit[0]}") == pytest.approx(amount * unit[1])


@given(st.text(max_size=8).filter(lambda text: not any(c.isdigit() for c in text)))
def test_text_that_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="unit"):
        parse_duration_s(text)


@pytest.mark.parametrize("profile", bundled_profiles().values(), ids=lambda p: p.short)
def test_profile_survives_the_manifest(profile: Profile) -> None:
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_a_profile_reaches_another_process_as_it_is() -> None:
    for profile in select_profiles("p00..p05,n01..n06"):
        assert pickle.loads(pickle.dumps(profile)) == profile
