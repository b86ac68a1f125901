"""Maps of names that installed packages add to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from treni.errors import Code, TreniError
from treni.plugins import Plugins

GROUP = "treni_route.fruit"


def _install(folder: Path, package: str, *entries: str, module: str = "") -> None:
    """A package as installers leave it: its module beside its metadata."""
    (folder / f"{package}.py").write_text(module, encoding="utf-8")
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n" + "\n".join(entries), encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which packages are imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _fruit() -> Plugins[str]:
    return Plugins(GROUP, str, lambda text: text.split()[0], ["apple of ours"])


def test_a_package_adds_an_entry_by_its_name(site: Path) -> None:
    fruit = _fruit()
    _install(site, "orchard", "pear = orchard:PEAR", module="PEAR = 'pear of theirs'")

    assert fruit["pear"] == "pear of theirs"
    assert fruit["apple"] == "apple of ours"
    assert list(fruit) == ["apple", "pear"]
    assert len(fruit) == 2
    assert "plum" not in fruit


@pytest.mark.parametrize(
    ("entry", "module", "got"),
    [
        ("pear = orchard_a:PEAR", "", "AttributeError"),
        ("pear = nowhere:PEAR", "", "ModuleNotFoundError"),
        ("pear = orchard_a:PEAR", "1 / 0", "ZeroDivisionError"),
        ("pear = orchard_a:PEAR", "PEAR = 7", "a int"),
        ("pear = orchard_a:PEAR", "PEAR = 'plum'", "named 'plum'"),
        ("apple = orchard_a:APPLE", "APPLE = 'apple'", "which the project itself has"),
    ],
)
def test_what_a_package_does_wrongly_is_told_with_its_name(
    site: Path, monkeypatch: pytest.MonkeyPatch, entry: str, module: str, got: str
) -> None:
    monkeypatch.delitem(__import__("sys").modules, "orchard_a", raising=False)
    _install(site, "orchard_a", entry, module=module)
    fruit = _fruit()

    with pytest.raises(TreniError) as raised:
        fruit[entry.split()[0]]

    assert raised.value.code is Code.FAILED_PRECONDITION
    assert "orchard_a" in raised.value.expected
    assert got in raised.value.got


def test_two_packages_with_one_name_are_told(site: Path) -> None:
    _install(site, "orchard_b", "fig = orchard_b:FIG", module="FIG = 'fig'")
    _install(site, "orchard_c", "fig = orchard_c:FIG", module="FIG = 'fig'")

    with pytest.raises(TreniError, match=r"which orchard_[bc] has too"):
        _fruit()["fig"]


def test_a_package_in_an_archive_adds_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    _install(packed, "orchard_zip", "quince = orchard_zip:QUINCE", module="QUINCE = 'quince of theirs'")
    archive = shutil.make_archive(str(tmp_path / "orchard"), "zip", packed)
    monkeypatch.syspath_prepend(archive)

    assert _fruit()["quince"] == "quince of theirs"


def test_an_egg_adds_an_entry(site: Path) -> None:
    _install(site, "orchard_egg", "medlar = orchard_egg:MEDLAR", module="MEDLAR = 'medlar of theirs'")
    egg = (site / "orchard_egg-1.0.dist-info").rename(site / "orchard_egg-1.0.egg-info")
    (egg / "METADATA").rename(egg / "PKG-INFO")

    assert _fruit()["medlar"] == "medlar of theirs"
