"""Planted bugs of where and when things run: fencing by session, clocks of other hosts, emulated networks."""

from __future__ import annotations

from tests.planted.bug import Bug, Campaign, Tests

_FENCE = "tests/proto/test_fence.py::"
_REFUSES = _FENCE + "test_a_server_refuses_every_other_caller_and_nothing_happens"
_SERVES = _FENCE + "test_a_server_does_what_its_own_session_asks_for"
_MODEL = _FENCE + "test_a_model_of_another_session_writes_no_token"
_STALE = "tests/matrices/topologies/test_fencing.py::test_a_stale_service_is_refused_or_its_effects_are_lost"

_ASKED = """self._stub.{method}(
            request,
            timeout=call.deadline.remaining_s(),
            metadata={marks},
"""

NETWORKS = (
    Bug(
        name="network-left-out",
        file="chaos/lanes.py",
        old="toxics = joined(network, () if lane is None else lane.toxics)",
        new="toxics = () if lane is None else lane.toxics",
        breaks="a campaign says that its hops were far apart, and they were not",
        seen_by=Campaign(suite="mixed", arguments=("--network", "us-us")),
        kinds=("attempt_duration",),
    ),
    Bug(
        name="network-one-way",
        file="chaos/emulation.py",
        old="    there = (rtt_ms // 2, jitter_ms // 2)\n",
        new="    there = (0, 0)\n",
        breaks="all of a round trip is on the way back",
        seen_by=Tests(
            nodes=("tests/chaos/test_emulation.py::test_each_way_takes_half_of_what_was_declared",)
        ),
    ),
)

CLOCKS = (
    Bug(
        name="clock-surer-than-it-can-be",
        file="matrices/topologies/clocks.py",
        old="best.way_s / 2 * 1e6",
        new="best.way_s / 4 * 1e6",
        breaks="a clock's offset is told with half of the error that unequal ways can hide",
        seen_by=Tests(
            nodes=(
                "tests/matrices/topologies/test_clocks.py::test_the_offset_is_within_its_error_however_unequal_the_ways",
            )
        ),
    ),
)

FENCING = (
    Bug(
        name="stale-server-believed",
        file="proto/treni/fence.py",
        old="        if given == self._mark:\n",
        new="        if given:\n",
        breaks="a server that was superseded does what another session asks for",
        seen_by=Tests(nodes=(_REFUSES,)),
    ),
    Bug(
        name="strangers-let-in",
        file="proto/treni/fence.py",
        old="        if given == self._mark:\n",
        new='        if given in ("", self._mark):\n',
        breaks="a caller that names no session writes into the ledger of one",
        seen_by=Tests(nodes=(_REFUSES,)),
    ),
    Bug(
        name="tool-calls-without-a-session",
        file="controller/remote.py",
        old=_ASKED.format(method="Call", marks="(*self._fence, *_metadata(call))"),
        new=_ASKED.format(method="Call", marks="_metadata(call)"),
        breaks="the tools can't tell whose call it is, and refuse it",
        seen_by=Tests(nodes=(_SERVES,)),
    ),
    Bug(
        name="model-calls-without-a-session",
        file="controller/remote.py",
        old=_ASKED.format(method="Generate", marks="(*self._fence, *_metadata(call))"),
        new=_ASKED.format(method="Generate", marks="_metadata(call)"),
        breaks="the model can't tell whose call it is, and refuses it",
        seen_by=Tests(nodes=(_MODEL,)),
    ),
    Bug(
        name="tools-take-any-session",
        file="matrices/topologies/roles.py",
        old='[*fenced(config.fence), FaultInjector("tool", deliveries)]',
        new='[FaultInjector("tool", deliveries)]',
        breaks="in a campaign the tools take effects for whoever calls",
        seen_by=Tests(nodes=(_STALE,)),
    ),
    Bug(
        name="stale-refusal-told-to-the-model",
        file="controller/policy.py",
        old="    if error.kind == STALE and error.definite:\n        return Disposition.RETRY\n",
        new="",
        breaks="the model is told of a server that was superseded, and no other one is tried",
        seen_by=Tests(
            nodes=(
                "tests/controller/test_policy.py::test_a_server_that_was_superseded_is_no_refusal_of_the_request",
            )
        ),
    ),
    Bug(
        name="superseded-ledger-written",
        file="tools_svc/ledger_append.py",
        old="            self._refuse_superseded()\n",
        new="",
        breaks="a call that a paused server still held takes effect once it goes on",
        seen_by=Tests(
            nodes=("tests/tools_svc/test_ledger.py::test_a_process_that_was_superseded_writes_nothing_more",)
        ),
    ),
)
