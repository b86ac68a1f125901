import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.profiles import (
    Profile,
    bundled_profiles,
    load_profile,
    parse_duration_s,
    select_profiles,
)
from treni.errors import Code, TreniError

PUBLISHED = {
    "p00_baseline": (None, None, 1),
    "p01_fail_mild": (10, None, 1),
    "p02_timeout_mild": (None, 10, 1),
    "p03_mixed_moderate": (5, 4, 1),
    "p04_mixed_aggressive": (2, 3, 1),
    "p05_mixed_aggressive_retry2": (2, 3, 2),
}


def _every(profile, kind):
    return next((rule.every for rule in profile.faults.rules if rule.kind == kind), None)


def test_bundled_profiles_are_the_published_ones():
    found = {
        p.name: (_every(p, "status"), _every(p, "stall"), p.policy.retries)
        for p in select_profiles("p00..p05")
    }
    assert found == PUBLISHED


def test_twins_differ_only_in_site():
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
def test_selection(selection, names):
    assert [p.short for p in select_profiles(selection)] == names


@pytest.mark.parametrize("selection", ["", "p9", "p05..p00", "p00..", "p00..p09", "nofile.toml"])
def test_bad_selection_says_what_is_allowed(selection):
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
        ('[faults]\nsite = "moon"', ["faults.site", "'hop' or 'tool'"]),
        ("[faults]\nwarmup = 1.5", ["faults.warmup", "integer"]),
        ("[faults", ["TOML"]),
    ],
)
def test_bad_profile_names_file_key_and_what_is_allowed(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\ntitle = "t"\n{text}\n')
    with pytest.raises(TreniError) as caught:
        load_profile(path)
    for word in ["mine.toml", *words]:
        assert word in str(caught.value)


def test_own_profile_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine_own"\ntitle = "t"\n[[faults.rules]]\nkind = "status"\nevery = 3\n')
    profile = select_profiles(str(path))[0]
    assert profile.short == "mine"
    assert profile.faults.rules[0].every == 3


@given(
    amount=st.integers(1, 10_000),
    unit=st.sampled_from([("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)]),
)
def test_durations(amount, unit):
    assert parse_duration_s(f"{amount}{unit[0]}") == pytest.approx(amount * unit[1])


@given(st.text(max_size=8).filter(lambda text: not any(c.isdigit() for c in text)))
def test_text_that_is_no_duration(text):
    with pytest.raises(ValueError, match="unit"):
        parse_duration_s(text)


@pytest.mark.parametrize("profile", bundled_profiles().values(), ids=lambda p: p.short)
def test_profile_survives_the_manifest(profile):
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
