"""The planted bugs: what a hurried change of the product might do, a line each."""

from __future__ import annotations

from tests.planted.bug import Bug, Campaign, Tests
from tests.planted.campaigns import LOST_ANSWER, LOST_REQUEST, STATUS
from tests.planted.door_bugs import DOORS
from tests.planted.ray_bugs import RAY
from tests.planted.strikes import STRIKES
from tests.planted.where_bugs import CLOCKS, FENCING, NETWORKS

_ATTEMPTS = "tests/controller/test_attempts.py::"
_POLICY = "tests/controller/test_policy.py::"
_LOOP = "tests/controller/test_loop.py::"
_ORDER = "tests/matrices/planning/test_order.py::"
_LANES = "tests/chaos/test_lanes.py::"
_ERRORS = "tests/proto/test_errors.py::"
_STORAGE = "tests/proto/test_storage.py::"
_TOKENS = "tests/runtime_svc/tokens/test_control_tokens.py::"

_WITHOUT_KEYS = ("--no-idempotency",)

KEYS = (
    Bug(
        name="key-of-each-attempt",
        file="controller/run.py",
        old="                    idempotency_key=key,\n",
        new='                    idempotency_key=f"{key}/{context.key.attempt}" if key else "",\n',
        breaks="a retry is a new effect, and the record still says one key",
        seen_by=Campaign(suite="ledger", rules=LOST_ANSWER),
        kinds=("effect_duplicate",),
    ),
    Bug(
        name="key-shared-by-calls",
        file="controller/run.py",
        old='f"{self.request.run_id}/{self.hop_calls}"',
        new='f"{self.request.run_id}/0"',
        breaks="the second call of a run replays the first or is refused",
        seen_by=Tests(nodes=(_LOOP + "test_several_calls_of_a_turn_run_in_order_with_keys_of_their_own",)),
    ),
    Bug(
        name="key-shared-by-runs",
        file="controller/run.py",
        old='f"{self.request.run_id}/{self.hop_calls}"',
        new='f"{self.request.task_id}/{self.hop_calls}"',
        breaks="a run that repeats a task writes nothing and is told that it did",
        seen_by=Tests(nodes=(_LOOP + "test_several_calls_of_a_turn_run_in_order_with_keys_of_their_own",)),
    ),
    Bug(
        name="run-id-used-again",
        file="matrices/running/runner.py",
        old='run_id = f"{name}/{planned.pair}/{arm}/{segment.epoch}"',
        new='run_id = f"{name}/0/{arm}/{segment.epoch}"',
        breaks="runs can't be told apart, and their keys clash",
        seen_by=Campaign(suite="ledger"),
        kinds=("run_id_wrong", "error_unplanned"),
    ),
)

RETRIES = (
    Bug(
        name="one-retry-too-many",
        file="controller/attempts.py",
        old="len(self._errors) > policy.retries",
        new="len(self._errors) > policy.retries + 1",
        breaks="requests succeed that the policy gives up",
        seen_by=Campaign(suite="mixed", rules=STATUS, retries=0),
        kinds=("error_count", "retry_count"),
    ),
    Bug(
        name="one-retry-too-few",
        file="controller/attempts.py",
        old="len(self._errors) > policy.retries",
        new="len(self._errors) >= policy.retries",
        breaks="requests fail that the policy tries again",
        seen_by=Campaign(suite="mixed", rules=STATUS),
        kinds=("error_count", "error_unplanned"),
    ),
    Bug(
        name="fatal-status-tried-again",
        file="controller/policy.py",
        old="Code.DATA_LOSS: Disposition.FATAL",
        new="Code.DATA_LOSS: Disposition.RETRY",
        breaks="what no retry helps is retried",
        seen_by=Tests(nodes=(_POLICY + "test_what_is_tried_again_and_what_the_model_may_correct",)),
    ),
    Bug(
        name="refusal-tried-again",
        file="controller/policy.py",
        old="Code.INVALID_ARGUMENT: Disposition.REFUSED",
        new="Code.INVALID_ARGUMENT: Disposition.RETRY",
        breaks="the model never hears what was wrong with its arguments",
        seen_by=Tests(nodes=(_LOOP + "test_a_refusal_is_read_by_the_model_and_not_retried",)),
    ),
    Bug(
        name="backoff-without-jitter",
        file="controller/policy.py",
        old="return base_s * (1.0 + self.backoff_jitter * (2.0 * uniform - 1.0))",
        new="return base_s",
        breaks="all callers come back at once",
        seen_by=Tests(nodes=(_POLICY + "test_backoff_differs_by_each_counter_and_spreads_over_its_range",)),
    ),
    Bug(
        name="backoff-without-seed",
        file="controller/policy.py",
        old='struct.pack("<4Q", self.seed, ',
        new='struct.pack("<4Q", 0, ',
        breaks="another seed waits as long",
        seen_by=Tests(nodes=(_POLICY + "test_backoff_differs_by_each_counter_and_spreads_over_its_range",)),
    ),
    Bug(
        name="backoff-without-maximum",
        file="controller/policy.py",
        old="base_s = min(self.backoff_max_s, grown_s)",
        new="base_s = grown_s",
        breaks="waits grow without bound",
        seen_by=Tests(nodes=(_POLICY + "test_backoff_is_bounded_and_reproducible",)),
    ),
    Bug(
        name="backoff-without-growth",
        file="controller/policy.py",
        old="float(self.backoff_multiplier) ** (attempt - 1)",
        new="float(self.backoff_multiplier) ** 0",
        breaks="every wait is the first",
        seen_by=Tests(nodes=(_POLICY + "test_backoff_is_bounded_and_reproducible",)),
    ),
    Bug(
        name="backoff-not-waited",
        file="controller/attempts.py",
        old="await hops.deadline.clock.sleep(wait_s)",
        new="await hops.deadline.clock.sleep(0.0)",
        breaks="a failing hop is hammered",
        seen_by=Campaign(suite="mixed", rules=STATUS),
        kinds=("backoff_wrong",),
    ),
    Bug(
        name="policy-seed-ignored",
        file="matrices/topologies/cell_config.py",
        old="return policy_of(self.profile, seed=self.seed)",
        new="return policy_of(self.profile, seed=0)",
        breaks="a campaign's seed does not reach its backoffs",
        seen_by=Campaign(suite="mixed", rules=STATUS, arguments=("--seed", "5")),
        kinds=("backoff_wrong",),
    ),
)

TIME = (
    Bug(
        name="attempt-without-timeout",
        file="controller/attempts.py",
        old="self._hops.deadline.within(self._hops.policy.timeout_s(self._key.hop))",
        new="self._hops.deadline",
        breaks="an attempt takes all the time that its run has",
        seen_by=Tests(nodes=(_ATTEMPTS + "test_an_attempt_that_ran_out_of_time_may_have_happened",)),
    ),
    Bug(
        name="timeout-halved",
        file="controller/attempts.py",
        old="self._hops.policy.timeout_s(self._key.hop)",
        new="self._hops.policy.timeout_s(self._key.hop) / 2",
        breaks="a stall costs half of what the policy says",
        seen_by=Campaign(suite="mixed", rules=LOST_REQUEST),
        kinds=("attempt_duration", "fault_not_observed"),
    ),
    Bug(
        name="deadline-put-off",
        file="controller/deadline.py",
        old="min(self.at_s, self.clock.now() + timeout_s)",
        new="self.clock.now() + timeout_s",
        breaks="an attempt outlives its run",
        seen_by=Tests(nodes=("tests/controller/test_deadline.py::test_a_deadline_only_shrinks",)),
    ),
    Bug(
        name="latency-to-the-first-text",
        file="matrices/running/client.py",
        old="        latency_s = time.perf_counter() - started\n",
        new="        latency_s = ttft_s or time.perf_counter() - started\n",
        breaks="an arm that begins early looks fast",
        seen_by=Campaign(suite="mixed"),
        kinds=("hops_negative",),
    ),
    Bug(
        name="failures-take-no-time",
        file="matrices/running/client.py",
        old="            latency_s=latency_s,\n",
        new="            latency_s=latency_s if error is None else 0.0,\n",
        breaks="an arm that fails looks fast",
        seen_by=Campaign(suite="mixed", rules=STATUS, retries=0),
        kinds=("latency_impossible",),
    ),
)

ORDER = (
    Bug(
        name="second-goes-first",
        file="matrices/running/runner.py",
        old="for arm in planned.order:",
        new="for arm in reversed(planned.order):",
        breaks="who goes first is not who was drawn",
        seen_by=Campaign(suite="mixed"),
        kinds=("pair_not_as_planned",),
    ),
    Bug(
        name="order-not-drawn",
        file="matrices/planning/order.py",
        old="return tuple(sign > 0 for sign in best.signs)",
        new="return tuple(True for _ in best.signs)",
        breaks="one arm always goes first",
        seen_by=Tests(nodes=(_ORDER + "test_nothing_leans_whatever_the_number_of_runs",)),
    ),
    Bug(
        name="order-seed-ignored",
        file="matrices/planning/order.py",
        old='random.Random(f"order/{seed}")',
        new='random.Random("order")',
        breaks="every campaign draws the same order",
        seen_by=Tests(nodes=(_ORDER + "test_the_seed_draws_the_order",)),
    ),
)

EFFECTS = (
    Bug(
        name="effect-twice",
        file="tools_svc/ledger_append.py",
        old='" VALUES (?, ?, ?, ?, ?, ?)",',
        new="\" VALUES (?1, ?2, ?3, ?4, ?5, ?6), (?1, ?2, ?3, ?4 || '+', ?5, ?6)\",",
        breaks="one call writes two rows, the second under another key",
        seen_by=Campaign(suite="ledger"),
        kinds=("effect_duplicate",),
    ),
    Bug(
        name="effect-before-refusal",
        file="tools_svc/ledger_append.py",
        old="        self._check(account, amount)\n",
        new="        self._append(account, amount, info)\n        self._check(account, amount)\n",
        breaks="a call that the tool refuses writes all the same",
        seen_by=Campaign(suite="repaired"),
        kinds=("effect_stranger", "effect_duplicate", "effect_phantom"),
    ),
    Bug(
        name="effect-not-written",
        file="tools_svc/ledger_append.py",
        old="            if not replayed:\n",
        new="            if replayed:\n",
        breaks="the caller is told of an entry that is not there",
        seen_by=Campaign(suite="ledger"),
        kinds=("effect_lost",),
    ),
    Bug(
        name="effect-of-another-amount",
        file="tools_svc/ledger_append.py",
        old="info.idempotency_key, account, amount),\n",
        new="info.idempotency_key, account, amount + 1),\n",
        breaks="the entry is not the one that was asked for",
        seen_by=Campaign(suite="ledger"),
        kinds=("effect_lost", "effect_altered"),
    ),
    Bug(
        name="effect-not-committed",
        file="tools_svc/ledger_append.py",
        old='self._database.execute("COMMIT")',
        new='self._database.execute("ROLLBACK")',
        breaks="every entry is taken back before it is acknowledged",
        seen_by=Campaign(suite="ledger"),
        kinds=("effect_lost",),
    ),
)

FAULTS = (
    Bug(
        name="fault-not-delivered",
        file="chaos/lanes.py",
        old="            if fault is None:\n",
        new="            if fault is None or fault.id:\n",
        breaks="a faulted attempt falls through to the clean lane",
        seen_by=Campaign(suite="mixed", rules=LOST_REQUEST),
        kinds=("fault_not_delivered",),
    ),
    Bug(
        name="fault-logged-but-not-delivered",
        file="chaos/lanes.py",
        old="make(channel)(request, metadata=pairs, **options)",
        new="clean(request, metadata=pairs, **options)",
        breaks="the log says that a fault struck, and none did",
        seen_by=Campaign(suite="mixed", rules=LOST_REQUEST),
        kinds=("fault_not_observed",),
    ),
    Bug(
        name="fault-delivered-but-not-logged",
        file="chaos/lanes.py",
        old='            self._deliveries.append_for(fault, "lane", dict(pairs))\n',
        new="",
        breaks="a fault strikes of which the log says nothing",
        seen_by=Campaign(suite="mixed", rules=LOST_REQUEST),
        kinds=("fault_not_delivered",),
    ),
    Bug(
        name="delivery-logged-twice",
        file="chaos/deliveries.py",
        old="        self._file.append(line)\n",
        new="        self._file.append(line)\n        self._file.append(line)\n",
        breaks="the log says that a fault struck twice",
        seen_by=Campaign(suite="mixed", rules=STATUS),
        kinds=("fault_delivered_twice",),
    ),
    Bug(
        name="short-write-ignored",
        file="proto/treni/storage.py",
        old="            rest = rest[written:]\n",
        new="            rest = rest[len(rest) :]\n",
        breaks="a line of which the kernel took a part counts as written",
        seen_by=Tests(nodes=(_STORAGE + "test_a_write_that_the_kernel_takes_in_parts_is_written_whole",)),
    ),
    Bug(
        name="torn-line-left",
        file="proto/treni/storage.py",
        old="        if end < size:\n            os.ftruncate(self._descriptor, end)\n",
        new="",
        breaks="what a killed writer left of a line grows into the next one",
        seen_by=Tests(nodes=(_STORAGE + "test_what_a_killed_writer_left_is_cut_before_the_next_line",)),
    ),
    Bug(
        name="fault-on-the-retry-too",
        file="chaos/schedule.py",
        old="        self._next_n += 1\n",
        new="        self._next_n += 2\n",
        breaks="faults strike attempts that the schedule leaves alone",
        seen_by=Campaign(suite="mixed", rules=STATUS),
        kinds=("fault_not_planned",),
    ),
    Bug(
        name="warm-up-counted",
        file="chaos/schedule.py",
        old="if key.hop != self._schedule.hop or key.request_index == WARMUP_REQUEST:",
        new="if key.hop != self._schedule.hop:",
        breaks="the warm-up moves the schedule on by an attempt",
        seen_by=Campaign(suite="mixed", rules=STATUS),
        kinds=("fault_not_planned",),
    ),
    Bug(
        name="stall-in-the-other-direction",
        file="chaos/faults/stall.py",
        old='"upstream" if self.direction == "request" else "downstream"',
        new='"downstream" if self.direction == "request" else "upstream"',
        breaks="the tool runs where it should not, and does not where it should",
        seen_by=Campaign(
            suite="ledger",
            rules=LOST_ANSWER,
            arguments=_WITHOUT_KEYS,
        ),
        kinds=("effect_duplicate", "effect_lost"),
    ),
    Bug(
        name="stall-of-the-tool-in-the-other-direction",
        file="chaos/faults/stall.py",
        old='if self.direction == "response":',
        new='if self.direction == "request":',
        breaks="the same at the tool, in both arms",
        seen_by=Campaign(
            suite="ledger",
            rules=LOST_ANSWER,
            site="tool",
            arguments=_WITHOUT_KEYS,
        ),
        kinds=("effect_duplicate", "effect_lost"),
    ),
    Bug(
        name="refused-after-the-tool-ran",
        file="chaos/faults/status.py",
        old="        raise call.error(self._code, True)\n",
        new="        await call.run()\n        raise call.error(self._code, True)\n",
        breaks="a status that says nothing happened, after it did, in the internal arm",
        seen_by=Campaign(
            suite="ledger",
            rules=STATUS,
            site="tool",
            arguments=_WITHOUT_KEYS,
        ),
        kinds=("effect_duplicate", "effect_phantom"),
    ),
)

RECORDS = (
    Bug(
        name="internal-arm-called-external",
        file="runtime_svc/internal.py",
        old="arm=arm, model=",
        new='arm="external", model=',
        breaks="a record claims to be of the other arm",
        seen_by=Campaign(suite="mixed"),
        kinds=("arm_swapped",),
    ),
    Bug(
        name="external-arm-called-internal",
        file="matrices/topologies/cell_config.py",
        old="agent=None if part.agent is None else part.agent.recorded_as,",
        new='agent=None if part.agent is None else "internal",',
        breaks="a record claims to be of the other arm",
        seen_by=Campaign(suite="mixed"),
        kinds=("arm_swapped",),
    ),
    Bug(
        name="arms-swapped",
        file="matrices/running/runner.py",
        old="services.agents(arm), lanes",
        new="services.agents(plan.arms[arm == plan.arms[0]]), {}",
        breaks="each arm's requests go to the other one",
        seen_by=Campaign(suite="mixed"),
        kinds=("arm_swapped",),
    ),
    Bug(
        name="error-swallowed-by-the-client",
        file="matrices/running/client.py",
        old='            error = from_rpc_error(failure, hop="agent")\n',
        new="            error = None\n",
        breaks="a failed request is a stream that ended too early, and of nobody's doing",
        seen_by=Campaign(suite="mixed", rules=STATUS, retries=0),
        kinds=("error_wrong",),
    ),
    Bug(
        name="error-swallowed-by-the-loop",
        file="controller/run.py",
        old="        except HopFailed:\n",
        new="        except KeyboardInterrupt:\n",
        breaks="a failed hop is told to the model, which answers something",
        seen_by=Campaign(suite="mixed", rules=STATUS, retries=0),
        kinds=("error_absent",),
    ),
    Bug(
        name="definite-flipped",
        file="controller/attempts.py",
        old='"fail" if error.definite else "unknown"',
        new='"unknown" if error.definite else "fail"',
        breaks="what certainly did not happen may have, and the other way round",
        seen_by=Tests(nodes=(_ATTEMPTS + "test_the_server_s_word_decides_what_is_definite",)),
    ),
    Bug(
        name="unavailable-called-definite",
        file="proto/treni/errors.py",
        old="    Code.UNAVAILABLE: False,\n",
        new="    Code.UNAVAILABLE: True,\n",
        breaks="a service that fails halfway says that nothing happened",
        seen_by=Tests(nodes=(_ERRORS + "test_what_can_come_after_the_work_was_done_proves_nothing",)),
    ),
    Bug(
        name="bare-status-called-definite",
        file="proto/treni/errors.py",
        old="        definite=False,\n        hop=hop,\n",
        new="        definite=True,\n        hop=hop,\n",
        breaks="a connection that broke after the tool ran proves that it did not",
        seen_by=Tests(nodes=(_LANES + "test_a_reset_is_a_real_one_fails_at_once_and_proves_nothing",)),
    ),
    Bug(
        name="unknown-recorded-as-fail",
        file="matrices/running/client.py",
        old='"ok" if error is None else "fail" if error.definite else "unknown"',
        new='"ok" if error is None else "fail"',
        breaks="an outcome that nobody knows is recorded as certain",
        seen_by=Campaign(suite="mixed", rules=LOST_REQUEST, retries=0),
        kinds=("outcome_inconsistent",),
    ),
)

ENGINE = (
    Bug(
        name="cache-shared-by-runs",
        file="runtime_svc/decoding/slots.py",
        old="blake2b(key.encode(), digest_size=_DIGEST_BYTES)",
        new='blake2b(b"", digest_size=_DIGEST_BYTES)',
        breaks="the second arm finds the first one's prefix",
        seen_by=Tests(nodes=("tests/runtime_svc/test_engine.py::test_no_key_sees_another_keys_prefix",)),
    ),
    Bug(
        name="sampling-seed-ignored",
        file="runtime_svc/backends/numpy/sampler.py",
        old="uniform(params.seed, step)",
        new="uniform(0, step)",
        breaks="another seed samples the same",
        seen_by=Tests(
            nodes=("tests/runtime_svc/test_engine.py::test_same_seed_same_answer_other_seed_another",)
        ),
    ),
    Bug(
        name="cancelled-generation-goes-on",
        file="runtime_svc/core.py",
        old="            generation.cancel(cancelled())\n",
        new="            pass\n",
        breaks="who left is decoded for to the end",
        seen_by=Tests(nodes=("tests/runtime_svc/test_service.py::test_a_closed_iterator_frees_the_engine",)),
    ),
    Bug(
        name="cancelled-tool-call-runs",
        file="tools_svc/pool.py",
        old="            caller.leave()\n",
        new="            pass\n",
        breaks="a call whose caller has left takes effect",
        seen_by=Tests(
            nodes=("tests/tools_svc/test_pool.py::test_a_cancelled_caller_takes_its_waiting_work_along",)
        ),
    ),
    Bug(
        name="late-tool-call-runs",
        file="tools_svc/protocol.py",
        old="return self._left or time.monotonic() >= self._expires_s",
        new="return self._left",
        breaks="a call takes effect after its deadline",
        seen_by=Tests(
            nodes=("tests/tools_svc/test_pool.py::test_time_that_runs_out_in_the_queue_never_runs",)
        ),
    ),
)

_NUMERIC = "tests/matrices/graders/test_numeric.py::"
_CHOICE = "tests/matrices/graders/test_choice.py::"

GRADES = (
    Bug(
        name="sign-of-a-number-lost",
        file="matrices/graders/numbers.py",
        old="        number = replace(number, value=-value)\n",
        new="        pass\n",
        breaks="minus five is as right as five",
        seen_by=Tests(nodes=(_NUMERIC + "test_another_number_is_wrong",)),
    ),
    Bug(
        name="choice-of-the-first-mark",
        file="matrices/graders/choice.py",
        old="        for mark in reversed(finals):\n",
        new="        for mark in finals:\n",
        breaks="an answer that is corrected counts as it was before",
        seen_by=Tests(nodes=(_CHOICE + "test_an_answer_chooses_the_letter_that_a_reader_sees",)),
    ),
    Bug(
        name="single-turn-offers-tools",
        file="controller/scenarios/single_turn.py",
        old="        run.offered = {}\n",
        new="        pass\n",
        breaks="a task that is to be answered in one turn has tools offered",
        seen_by=Tests(
            nodes=(
                "tests/controller/test_scenarios.py::test_a_single_turn_is_one_call_of_the_model_without_tools",
            )
        ),
    ),
)

TEXT = (
    Bug(
        name="anyone-writes-control-tokens",
        file="runtime_svc/tokens/tokenizer.py",
        old="return SPOKEN if token in MARKERS else WRITTEN",
        new="return 0",
        breaks="a user or a tool ends the turn and writes the system's",
        seen_by=Tests(nodes=(_TOKENS + "test_a_plain_text_has_neither_control_tokens_nor_markers",)),
    ),
    Bug(
        name="literals-untraced",
        file="runtime_svc/tokens/jinja.py",
        old="literal = staticmethod(lru_cache(maxsize=4096)(written))",
        new="literal = staticmethod(str)",
        breaks="the template's own control tokens are encoded as text",
        seen_by=Tests(nodes=(_TOKENS + "test_every_place_of_a_conversation",)),
    ),
    Bug(
        name="thoughts-are-run",
        file="proto/treni/markup.py",
        old="            blocks.clear()\n",
        new="",
        breaks="a call that the model only considered takes effect",
        seen_by=Tests(nodes=("tests/proto/test_markup.py::test_what_is_thought_is_neither_said_nor_called",)),
    ),
    Bug(
        name="half-of-a-surrogate-pair",
        file="runtime_svc/toolcalls.py",
        old="        _check_unicode(value)\n",
        new="        pass\n",
        breaks="a schema is accepted that no prompt can hold",
        seen_by=Tests(nodes=("tests/runtime_svc/test_toolcalls.py::test_malformed_calls_say_why",)),
    ),
    Bug(
        name="words-cut-at-their-marks",
        file="tools_svc/words.py",
        old='startswith("M")',
        new='startswith("Mn")',
        breaks="half of a word in Hindi or Tamil is looked for",
        seen_by=Tests(nodes=("tests/tools_svc/test_words.py::test_where_words_begin_and_end",)),
    ),
)

SEVERAL = (
    Bug(
        name="retry-at-another-tool-service",
        file="matrices/topologies/roles.py",
        old="chosen(key.request_index // config.controllers, count)",
        new="(chosen(key.request_index // config.controllers, count) + key.attempt) % count",
        breaks="a repeated key reaches a ledger that does not know it",
        seen_by=Campaign(suite="ledger", rules=LOST_ANSWER, arguments=("--tool-services", "2")),
        kinds=("effect_duplicate",),
    ),
    Bug(
        name="request-to-another-controller",
        file="matrices/running/client.py",
        old="chosen(request.request_index, self._agents)",
        new="chosen(request.request_index + 1, self._agents)",
        breaks="nobody knows which controller answers a request",
        seen_by=Campaign(suite="mixed", arguments=("--controllers", "2")),
        kinds=("arm_swapped",),
    ),
    Bug(
        name="ledger-of-one-tool-service",
        file="matrices/topologies/cell_services.py",
        old="self._effects(roles) for roles in",
        new="self._effects(roles[:1]) for roles in",
        breaks="the effects of all other tool services are lost",
        seen_by=Campaign(suite="ledger", arguments=("--tool-services", "2")),
        kinds=("effect_lost",),
    ),
)

BUGS: tuple[Bug, ...] = (
    *KEYS,
    *RETRIES,
    *TIME,
    *ORDER,
    *EFFECTS,
    *FAULTS,
    *RECORDS,
    *ENGINE,
    *GRADES,
    *TEXT,
    *SEVERAL,
    *FENCING,
    *DOORS,
    *CLOCKS,
    *NETWORKS,
    *RAY,
    *STRIKES,
)
