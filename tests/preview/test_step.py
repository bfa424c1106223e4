"""What of a step is looked at."""

import pytest
import torch
from safelight.preview.step import Step

X0, X = torch.zeros(1), torch.ones(1)


@pytest.mark.parametrize(
    ("denoised", "noisy", "show", "expected"),
    [
        (X0, X, "denoised", (X0, 1.0, "denoised")),
        (X0, X, "noisy", (X, 0.25, "noisy")),
        (None, X, "denoised", (X, 0.25, "noisy")),
        (X0, None, "noisy", (X0, 1.0, "denoised")),
        (None, None, "denoised", (None, 0.25, "noisy")),
    ],
)
def test_the_other_tensor_is_shown_where_the_one_asked_for_is_missing_and_says_so(denoised, noisy, show, expected):
    values, gain, shown = Step(index=1, total=1, denoised=denoised, noisy=noisy, noisy_gain=0.25).latents(show)
    assert values is expected[0]
    if values is not None:
        assert (gain, shown) == expected[1:]
