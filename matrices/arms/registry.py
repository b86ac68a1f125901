"""The arms by name, ours and those of installed packages, and the comparison that a campaign makes of two."""

from __future__ import annotations

from collections.abc import Mapping

from matrices.arms.arm import AGAIN, Arm, Comparison
from matrices.arms.endpoint import ENDPOINT
from matrices.arms.external import EXTERNAL
from matrices.arms.internal import INTERNAL
from matrices.arms.own_agent import OWN_AGENT
from tools_svc.suggest import clip, did_you_mean
from treni.errors import Code, TreniError, invalid_argument
from treni.plugins import Plugins

ARMS: Mapping[str, Arm] = Plugins(
    "treni_route.arms", Arm, lambda arm: arm.name, (INTERNAL, EXTERNAL, ENDPOINT, OWN_AGENT)
)
"""Every arm by its name. A package adds one by an entry point in `treni_route.arms`."""

DEFAULT = Comparison(baseline=INTERNAL, compared=EXTERNAL)
"""What is compared where nothing else is asked for."""


def arm_named(name: str) -> Arm:
    """The arm of that name; a name that ends with "_b" is the second instance of another.

    Raises INVALID_ARGUMENT (`arm_unknown`), or what is wrong with the package that brings it.
    """
    if name in ARMS or name not in _again():
        return _known(name)
    return ARMS[name.removesuffix(AGAIN)].again()


def comparison_of(baseline: str, compared: str) -> Comparison:
    """The comparison of two arms by their names; of an arm with itself, its second instance is the other one.

    Raises as `arm_named`, and INVALID_ARGUMENT (`arms_entangled`) for two that share more than their model.
    """
    one, other = arm_named(baseline), arm_named(compared)
    return Comparison(baseline=one, compared=other.again() if one == other else other)


def comparison_written(baseline: Arm, compared: Arm) -> Comparison:
    """The comparison of two arms as a campaign tells of them, whether they are known here or not.

    Raises FAILED_PRECONDITION (`arm_changed`) for one that is known here otherwise.
    """
    known = {*ARMS, *_again()}
    for arm in (baseline, compared):
        if arm.name in known and arm_named(arm.name) != arm:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "arm_changed",
                expected=f"the arm {arm.name} as in this version",
                got=str(arm),
                todo="use the versions of treni-route, and of the package that brings the arm, that the manifest names",
            )
    return Comparison(baseline=baseline, compared=compared)


def parse_comparison(text: str) -> Comparison:
    """The comparison in "BASELINE:COMPARED". Raises as `comparison_of`, and `comparison_invalid` for other text."""
    baseline, colon, compared = text.partition(":")
    if not colon:
        raise invalid_argument(
            "comparison_invalid",
            expected="two arms as BASELINE:COMPARED",
            got=clip(text),
            todo=f"name two of {', '.join(ARMS)}, such as {':'.join(DEFAULT.names)}",
        )
    return comparison_of(baseline.strip(), compared.strip())


def _again() -> set[str]:
    return {name + AGAIN for name in ARMS}


def _known(name: str) -> Arm:
    try:
        return ARMS[name]
    except KeyError:
        raise invalid_argument(
            "arm_unknown",
            expected=f"an arm: {', '.join(ARMS)}",
            got=clip(name),
            todo=did_you_mean(name, [*ARMS]),
        ) from None
