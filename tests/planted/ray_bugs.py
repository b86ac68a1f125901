"""Planted bugs of clusters of Ray, as far as tests without Ray can see them."""

from __future__ import annotations

from tests.planted.bug import Bug, Tests

_CLUSTER = "tests/matrices/cli/test_cluster.py::"
_SETTINGS = "tests/matrices/topologies/test_ray_settings.py::"

RAY = (
    Bug(
        name="ray-autoscaler-v2",
        file="deploy/local.yaml.jinja",
        old="RAY_enable_autoscaler_v2=0 ray start",
        new="ray start",
        breaks="`ray up` ends with status 0, and no worker ever joins",
        seen_by=Tests(
            nodes=(
                _CLUSTER + "test_every_host_starts_ray_with_its_resource_the_token_and_a_state_that_stays",
            )
        ),
    ),
    Bug(
        name="ray-workers-niced",
        file="matrices/cli/cluster.py",
        old='"RAY_worker_niceness": "0",',
        new='"RAY_worker_niceness": "15",',
        breaks="roles wait for whatever else runs on their host",
        seen_by=Tests(
            nodes=(
                _CLUSTER + "test_every_host_starts_ray_with_its_resource_the_token_and_a_state_that_stays",
            )
        ),
    ),
    Bug(
        name="ray-ports-overlap",
        file="matrices/topologies/ray_actors.py",
        old="return int(text) + 2 * (",
        new="return int(text) + (",
        breaks="the second role of a kind listens where the first one's own service does",
        seen_by=Tests(nodes=(_SETTINGS + "test_each_role_of_a_host_has_two_ports_of_its_own",)),
    ),
    Bug(
        name="ray-failure-swallowed",
        file="matrices/topologies/ray_protocol.py",
        old="        if one.failure is not None:\n",
        new="        if one.failure is not None and one.address:\n",
        breaks="a role that did not start counts as one that serves",
        seen_by=Tests(nodes=(_SETTINGS + "test_an_error_travels_whole_and_the_first_one_is_raised",)),
    ),
)
