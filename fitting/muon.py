"""The Muon optimizer, for weight matrices inside a network."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # from the source: so steep at 0 that five iterations bring all values to about 1


class Muon(torch.optim.Optimizer):
    """Gradient descent with momentum whose steps change every direction of a weight by about the same amount.

    A plain gradient is large in few directions, so that the other directions are learned late. Small convolutions
    reached the result of AdamW in about half as many steps.

    Args:
        parameters: weights `[n_out, ...]` of layers inside a network.
        lr: length of a step; for a square matrix in its spectral norm.

    Source: https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                direction = orthogonalize(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
                stretch = math.sqrt(max(1.0, direction.shape[0] / direction.shape[1]))
                weight.sub_(direction.reshape(weight.shape), alpha=group["lr"] * stretch)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Approximates the nearest matrix whose singular values are all 1, with matrix products only."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
