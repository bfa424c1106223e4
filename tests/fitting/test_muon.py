"""The Muon optimizer: against singular values, its formula, and a small problem."""

import math

import pytest
import torch
from safelight.fitting.muon import MOMENTUM, Muon, orthogonalize


def matrix(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (20, 4), (1, 5)], ids=str)
@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_directions_stay_and_singular_values_become_about_one(shape, size):
    found = orthogonalize(size * matrix(*shape))
    left, _, right = torch.linalg.svd(matrix(*shape), full_matrices=False)
    lengths = torch.diagonal(left.T @ found @ right.T)
    assert found.shape == shape
    assert float(lengths.min()) > 0.5
    assert float(lengths.max()) < 1.3
    across = left.T @ found @ right.T - torch.diag(lengths)
    assert float(across.abs().max()) < 1e-2


def test_a_zero_gradient_gives_no_step():
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.parametrize("shape", [(3, 4, 3, 3), (12, 2, 1, 1)], ids=str)
def test_steps_match_their_formula(shape):
    weight = matrix(*shape).requires_grad_()
    expected, momentum = weight.detach().clone(), torch.zeros(shape)
    optimizer = Muon([weight], lr=0.1)
    for i in range(3):
        weight.grad = matrix(*shape, seed=i + 1)
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * weight.grad
        direction = (1 - MOMENTUM) * weight.grad + MOMENTUM * momentum
        rows, columns = shape[0], math.prod(shape[1:])
        turn = orthogonalize(direction.reshape(rows, columns)).reshape(shape)
        expected = expected - 0.1 * math.sqrt(max(1, rows / columns)) * turn
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_a_direction_with_a_small_gradient_is_learned_as_fast_as_one_with_a_large_gradient():
    target = torch.eye(2)
    loudness = torch.tensor([1.0, 0.1])  # of the columns: the gradient of the second is a hundredth
    weight = torch.zeros(2, 2, requires_grad=True)
    optimizer = Muon([weight], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        (((weight - target) * loudness) ** 2).sum().backward()
        optimizer.step()
    away = torch.diagonal(weight.detach() - target).abs()
    assert float(away.max()) < 0.3
    assert float(away[1] - away[0]) < 0.1
