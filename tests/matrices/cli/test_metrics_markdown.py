"""The page of all metrics is that of the code, and every metric keeps to the conventions that it promises."""

from __future__ import annotations

import re

from matrices.cli.metrics_markdown import described, page
from tests.places import ROOT

LABELS = {
    *("arm", "profile", "hop", "outcome", "code", "kind", "tool", "part", "site", "how", "role"),
    *("stage", "bound", "verdict", "mode", "state", "gpu"),
}


def test_the_page_in_the_docs_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == page(), (
        "docs/metrics.md is out of date: python -m matrices.cli.metrics_markdown > docs/metrics.md"
    )


def test_names_say_component_and_unit_and_labels_have_few_values() -> None:
    for metric in described():
        assert re.fullmatch(r"treni_(rpc|agent|tools|chaos|runtime|harness|host)_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.type == "counter"), metric.name
        assert not re.search(r"_(ms|us|s|mb|kb|percent)(_total)?$", metric.name), metric.name
        if metric.type == "histogram":
            assert metric.name.endswith("_seconds"), metric.name
        assert set(metric.labels) <= LABELS, metric.name
        assert metric.text.endswith("."), metric.name


def test_no_metric_is_there_twice() -> None:
    names = [metric.name for metric in described()]
    assert len(names) == len(set(names))
