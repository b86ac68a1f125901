"""What was asked for: policy, schedule, seed, suite, shape."""

from __future__ import annotations

from typing import Any

from matrices.spec.profiles import PolicySpec
from tests.matrices.checks.tampering.folder import Folder, add, tampers

CHANGED = "schedule_changed"


def cell(c: Folder, name: str = "p03") -> dict[str, Any]:
    """A cell of the manifest."""
    found: dict[str, Any] = next(one for one in c.manifest["cells"] if one["name"] == name)
    return found


@tampers("backoff_wrong", "pair_not_as_planned")
def another_seed(c: Folder) -> None:
    c.manifest["seed"] = 7


POLICY: dict[str, tuple[float, tuple[str, ...]]] = {
    "retries": (2, ("attempt_wrong", "error_absent", "retries_unplanned")),
    "retries of none": (0, ("attempt_wrong", "retries_unplanned", "pair_not_as_planned")),
    "tool_timeout": (3.0, ("attempt_duration", "latency_impossible")),
    "tool_timeout of less": (0.1, ("overhead_unlikely",)),
    "backoff_initial": (0.2, ("backoff_wrong",)),
    "backoff_initial of less": (0.02, ("overhead_unlikely",)),
    "backoff_jitter": (0.9, ("backoff_wrong", "overhead_unlikely")),
    "backoff_max": (0.01, ("overhead_unlikely",)),
}

for name, (value, kinds) in POLICY.items():

    def policy(c: Folder, name: str = name, value: float = value) -> None:
        key = name.split(" ")[0]
        floor, *others = (one["policy"] for one in c.manifest["cells"])
        for one in others:
            one[key] = value
        if key.endswith("_timeout"):  # as patient as they are, so that the files agree
            floor[key] = max(value, getattr(PolicySpec(), key))

    add(f"another policy of {name}", policy, *kinds)


@tampers(CHANGED)
def another_rule(c: Folder) -> None:
    cell(c)["schedule"]["rules"][0]["every"] = 7


@tampers(CHANGED)
def a_rule_less(c: Folder) -> None:
    cell(c)["schedule"]["rules"].pop()


@tampers(CHANGED)
def another_warm_up(c: Folder) -> None:
    cell(c)["schedule"]["warmup"] = 3


@tampers(CHANGED, "manifest_inconsistent")
def a_schedule_at_the_tool(c: Folder) -> None:
    cell(c)["schedule"]["site"] = "tool"


@tampers(CHANGED)
def another_digest(c: Folder) -> None:
    cell(c)["schedule_hash"]["external"] = "0" * 64


@tampers("manifest_inconsistent")
def another_site_is_told(c: Folder) -> None:
    cell(c)["site"] = "tool"


@tampers("manifest_inconsistent")
def the_arms_of_a_cell_change_places(c: Folder) -> None:
    cell(c)["arms"].reverse()


@tampers("manifest_inconsistent")
def a_cell_has_another_name(c: Folder) -> None:
    cell(c)["name"] = "p05"


@tampers("start_not_as_planned", "manifest_inconsistent", CHANGED)
def a_cell_has_another_profile(c: Folder) -> None:
    cell(c)["profile"] = "p03_renamed"


@tampers("attempt_wrong", "effect_altered", "effect_lost")
def keys_were_not_sent(c: Folder) -> None:
    c.manifest["idempotency"] = False


@tampers("pair_missing", "pair_unplanned", "manifest_inconsistent", "pair_not_as_planned")
def more_runs_were_asked_for(c: Folder) -> None:
    c.manifest["runs"] = 3


@tampers("pair_unplanned", "manifest_inconsistent", "pair_not_as_planned")
def fewer_runs_were_asked_for(c: Folder) -> None:
    c.manifest["runs"] = 1


@tampers("start_not_as_planned", "event_stray")
def processes_were_to_be_fresh(c: Folder) -> None:
    c.manifest["restarts"] = 2


@tampers("event_stray", "concurrency_not_exact")
def more_requests_were_to_be_in_flight(c: Folder) -> None:
    c.manifest["concurrency"] = 4


@tampers("rules_changed")
def conditions_have_other_limits(c: Folder) -> None:
    c.manifest["contamination"]["other_cpu_fraction"] = 0.9


@tampers("rules_changed")
def no_tool_has_side_effects(c: Folder) -> None:
    c.manifest["side_effect_tools"] = []


@tampers("start_not_as_planned")
def another_toxiproxy_was_used(c: Folder) -> None:
    c.manifest["details"]["toxiproxy"] = "127.0.0.1:8474"


@tampers("manifest_inconsistent")
def the_manifest_tells_of_other_tasks(c: Folder) -> None:
    c.manifest["suite"]["tasks"][0]["side_effects"] = 4


@tampers("manifest_inconsistent", "pair_not_as_planned")
def a_task_of_the_suite_has_another_name(c: Folder) -> None:
    c.suite[3]["id"] = "chains-99"


@tampers("manifest_inconsistent", "pair_not_as_planned")
def a_task_of_the_suite_has_another_family(c: Folder) -> None:
    c.suite[3]["family"] = "direct"


@tampers("manifest_inconsistent", "pair_not_as_planned", "answer_wrong")
def two_tasks_of_the_suite_change_places(c: Folder) -> None:
    c.suite[0], c.suite[1] = c.suite[1], c.suite[0]


@tampers("clock_stepped", "clock_impossible")
def the_campaign_was_made_after_it_ran(c: Folder) -> None:
    c.manifest["created_utc"] = "2099-01-01T00:00:00+00:00"


@tampers("manifest_malformed")
def an_unknown_key(c: Folder) -> None:
    c.manifest["colour"] = "red"


@tampers("manifest_inconsistent")
def the_a_a_cell_has_another_policy(c: Folder) -> None:
    cell(c, "aa")["policy"]["tool_timeout"] = 9.0


@tampers("manifest_inconsistent")
def a_rule_that_no_profile_can_have(c: Folder) -> None:
    cell(c)["schedule"]["rules"][0]["kind"] = "gremlin"


@tampers("manifest_inconsistent")
def another_backend_was_asked_for(c: Folder) -> None:
    c.manifest["details"]["backend"] = "cupy"


@tampers("manifest_inconsistent")
def another_suite_was_asked_for(c: Folder) -> None:
    c.manifest["details"]["suite"] = "core"


@tampers("manifest_inconsistent")
def nobody_knows_what_was_asked_for(c: Folder) -> None:
    c.manifest["details"] = {}
