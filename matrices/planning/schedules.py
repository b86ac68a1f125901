"""What of a profile acts on attempts as they are made: the schedules of its faults, and the policy of whoever tries."""

from __future__ import annotations

from chaos.schedule import Rule, Schedule
from controller.policy import Policy
from matrices.spec.profiles import Profile


def schedules_of(profile: Profile, *, prefix: str, cycle: int | None = None) -> tuple[Schedule, ...]:
    """The chaos schedules that a profile's `[faults]` describes, one for each hop; `cycle` as in `Schedule`."""
    spec = profile.faults
    return tuple(
        Schedule(
            prefix=prefix,
            site=spec.site_of(hop),
            hop=hop,
            by=spec.by,
            warmup=spec.warmup,
            seed=spec.seed,
            rules=tuple(
                Rule(
                    kind=rule.fault,
                    when=rule.when,
                    from_request=rule.from_request,
                    to_request=rule.to_request,
                )
                for rule in spec.rules
                if spec.hop_of(rule) == hop
            ),
            cycle=cycle,
        )
        for hop in spec.hops
    )


def policy_of(profile: Profile, *, seed: int) -> Policy:
    """The controller's policy that a profile's `[policy]` describes."""
    spec = profile.policy
    return Policy(
        run_timeout_s=spec.run_timeout,
        model_timeout_s=spec.model_timeout,
        tool_timeout_s=spec.tool_timeout,
        retries=spec.retries,
        backoff_initial_s=spec.backoff_initial,
        backoff_max_s=spec.backoff_max,
        backoff_multiplier=spec.backoff_multiplier,
        backoff_jitter=spec.backoff_jitter,
        seed=seed,
    )
