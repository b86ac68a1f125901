"""What a resumption refuses: anything that would make the report name what was not measured."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from matrices.evidence import provenance
from matrices.evidence.begun_with import refuse_other_model, refuse_other_versions
from runtime_svc.weights.random_shards import write_random_shards
from tests.matrices import harness as h
from tests.matrices import histories
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2

HERE = replace(
    histories.manifest(histories.manifest_cell()),
    versions={**provenance.versions(), "toxiproxy": "2.12.0"},
    commit=provenance.commit(),
)
INFO = inference_pb2.InfoResponse(
    model="treni-tiny",
    backend="numpy",
    device="cpu",
    dtype="float32",
    parameters=1,
    checkpoint_sha256="0" * 64,
)


def test_the_same_code_goes_on_also_where_the_tree_has_changes() -> None:
    refuse_other_versions(HERE)
    refuse_other_versions(replace(HERE, commit=HERE.commit.removesuffix("+dirty") + "+dirty"))


@pytest.mark.parametrize("name", ["treni-route", "numpy", "grpcio", "python"])
@pytest.mark.parametrize("version", ["0.0.1", None])
def test_another_version_of_anything_is_refused_by_name(name: str, version: str | None) -> None:
    others = {key: value for key, value in HERE.versions.items() if key != name}
    if version is not None:
        others[name] = version
    with pytest.raises(TreniError, match=name) as raised:
        refuse_other_versions(replace(HERE, versions=others))
    assert (raised.value.code, raised.value.kind) == (Code.FAILED_PRECONDITION, "version_changed")


def test_asking_for_the_commit_writes_nothing_into_the_checkout(tmp_path: Path) -> None:
    """With a full disk under it, git would leave a lock there, and no commit could be told from then on."""

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    file = tmp_path / "file"
    file.write_text("the same", encoding="utf-8")
    git("init")
    git("add", "file")
    git("commit", "--message", "first")
    index = tmp_path / ".git" / "index"
    before = index.read_bytes()
    os.utime(file, (1, 1))  # what the index knows of the file is old now, and its content as it was
    found = provenance.commit_at(tmp_path)
    assert len(found) == 40
    assert index.read_bytes() == before
    file.write_text("another", encoding="utf-8")
    assert provenance.commit_at(tmp_path) == found + "+dirty"
    assert provenance.commit_at(tmp_path / "nowhere") == ""


def test_another_commit_is_refused() -> None:
    with pytest.raises(TreniError, match="commit"):
        refuse_other_versions(replace(HERE, commit="1" * 40))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("checkpoint_sha256", "1" * 64),
        ("model", "other"),
        ("backend", "cupy"),
        ("device", "gpu"),
        ("dtype", "bfloat16"),
        ("parameters", 2),
    ],
)
def test_another_model_is_refused_by_what_is_other(field: str, value: object) -> None:
    refuse_other_model(HERE.model, INFO)
    other = inference_pb2.InfoResponse()
    other.CopyFrom(INFO)
    setattr(other, field, value)
    with pytest.raises(TreniError) as raised:
        refuse_other_model(HERE.model, other)
    assert (raised.value.code, raised.value.kind) == (Code.FAILED_PRECONDITION, "model_changed")


@pytest.mark.chaos
@pytest.mark.slow
def test_other_weights_in_the_same_place_are_refused_and_change_nothing(tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    write_random_shards(model, "tiny-random", seed=0)
    arguments = (h.patient(tmp_path, "p00"), "--suite", "tool_only", "--runs", "2", "--model", str(model))
    process = h.start(*arguments, "--out", str(out))
    h.wait_for(lambda: any(event["type"] == "pair_complete" for event in h.events(out)), process)
    process.kill()
    process.communicate()
    model.rename(tmp_path / "before")
    write_random_shards(model, "tiny-random", seed=1)
    refused = h.resume(h.folder_in(out))
    assert refused.status == 1
    assert "checkpoint_sha256" in refused.stderr
    assert "Traceback" not in refused.stderr
    model.rename(tmp_path / "other")
    (tmp_path / "before").rename(model)
    assert h.resume(h.folder_in(out)).status == 1  # the answers of random weights are wrong
    assert [event["type"] for event in h.events(out)][-1] == "sealed"
