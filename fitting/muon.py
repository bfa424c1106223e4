"""An optimiser for the matrices inside a network."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # of the source: so steep at nothing that five rounds bring all to about 1


class Muon(torch.optim.Optimizer):
    """Gradient descent with momentum, whose steps turn every direction of a weight by about as much.

    A gradient is loud in few directions, and what is quiet in it is learnt late. Small convolutions got as far as with
    AdamW in about half as many steps.

    Args:
        parameters: weights `[n_out, ...]` of layers inside a network.
        lr: how far a step goes, for a square matrix in its spectral norm.

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
                turn = orthogonal(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
                stretch = math.sqrt(max(1.0, turn.shape[0] / turn.shape[1]))
                weight.sub_(turn.reshape(weight.shape), alpha=group["lr"] * stretch)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix whose singular values are all 1, found with products alone."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
