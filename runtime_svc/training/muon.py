"""Muon for the model's matrices: momentum, then the nearest orthogonal matrix as the step.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the step scaled to the size that
AdamW's has (Liu et al. 2025, arXiv:2502.16982), so that both share a learning rate. Matrices of one shape are stepped
together: one at a time, as torch.optim.Muon does it, a model of this size spends most of a step on launches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon:
    """Steps two-dimensional parameters, all of which must have gradients."""

    def __init__(
        self, parameters: Iterable[Tensor], *, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            groups[parameter.shape].append(parameter)
        self._groups = [(group, [torch.zeros_like(p) for p in group]) for group in groups.values()]
        self._momentum = momentum
        self._weight_decay = weight_decay

    @torch.no_grad()
    def step(self, rate: Tensor) -> None:
        """One step at a learning rate, () float32 on the parameters' device."""
        for group, averages in self._groups:
            gradients = [p.grad for p in group if p.grad is not None]
            torch._foreach_lerp_(averages, gradients, 1 - self._momentum)
            nesterov = torch._foreach_lerp(gradients, averages, self._momentum)
            steps = orthogonal(torch.stack(nesterov)).float()
            scale = 0.2 * max(group[0].shape) ** 0.5
            torch._foreach_mul_(group, 1 - rate * self._weight_decay)
            torch._foreach_sub_(group, list((steps * (rate * scale)).unbind()))


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, R, C) to about U V^T of each one's singular value decomposition, by Newton-Schulz steps in bfloat16."""
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16()
    turned = x.shape[1] > x.shape[2]
    if turned:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if turned else x
