"""Which topologies there are, how a user names one, and what a package has to bring to add another."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrices.topologies.hosts import Hosts
from matrices.topologies.local import Local
from matrices.topologies.registry import TOPOLOGIES, chosen, topology
from tests.matrices.topologies.hosts_files import WHOLE
from tests.places import ROOT
from treni.errors import Code, TreniError

PACKAGE = """
from matrices.topologies.local import Local
from matrices.topologies.topology import TopologyEntry


class Elsewhere(Local):
    def __init__(self, where):
        self.where = where


ENTRY = TopologyEntry(
    name="elsewhere",
    settings=lambda argument: {"where": argument or "nowhere"},
    build=lambda settings: Elsewhere(settings["where"]),
)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds a topology, as installers leave it."""
    (tmp_path / "elsewhere_plugin.py").write_text(PACKAGE, encoding="utf-8")
    metadata = tmp_path / "elsewhere_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[treni_route.topologies]\nelsewhere = elsewhere_plugin:ENTRY\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_the_projects_own() -> None:
    assert list(TOPOLOGIES) == ["local", "hosts", "pilot", "ray"]
    assert chosen("local") == ("local", {})
    assert isinstance(topology("local", {}), Local)


@pytest.mark.parametrize("form", ["{}", "hosts:{}"])
def test_a_file_of_hosts_is_kept_whole_under_a_name_of_its_own(tmp_path: Path, form: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(WHOLE, encoding="utf-8")
    name, settings = chosen(form.format(path))
    assert name == "hosts"
    assert isinstance(topology(name, settings), Hosts)
    assert [one["address"][-4:] for one in settings["hosts"]["service"]] == ["7001"] * 3
    assert chosen(str(path))[1]["campaign"] != settings["campaign"]


def test_a_package_adds_one_by_name(package: None) -> None:
    assert chosen("elsewhere") == ("elsewhere", {"where": "nowhere"})
    name, settings = chosen("elsewhere:there")
    assert vars(topology(name, settings)) == {"where": "there"}


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "local:", "local:x", "hosts", "hosts:", ":x", "ray:", "ray:here", "ray:local", "ray:h:0"],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(TreniError) as raised:
        chosen(text)
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_the_example_is_a_file_of_hosts() -> None:
    path = ROOT / "examples" / "hosts" / "hosts.toml"
    assert isinstance(topology(*chosen(str(path))), Hosts)
