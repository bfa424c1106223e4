"""The tensor of a step that is shown."""

import numpy as np
import pytest
import torch
from safelight.errors import OptionError
from safelight.preview.step import Step, measured_gain, step_number

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
def test_if_the_wanted_tensor_is_missing_the_other_one_is_shown_and_named(denoised, noisy, show, expected):
    values, gain, shown = Step(index=1, total=1, denoised=denoised, noisy=noisy, noisy_gain=0.25).latents(show)
    assert values is expected[0]
    if values is not None:
        assert (gain, shown) == expected[1:]


@pytest.mark.parametrize(
    "number", [3, 3.0, torch.tensor(3), torch.tensor(3.0), torch.tensor([3]), np.int64(3), np.float32(3), np.array(3)]
)
def test_the_number_of_a_step_is_an_integer_whatever_the_sampler_counts_with(number):
    step = Step(index=number, total=number)
    assert (step.index, step.total) == (3, 3)
    assert type(step.index) is type(step.total) is int


@pytest.mark.parametrize(
    "number",
    [0.5, float("nan"), float("inf"), -1, 10**30, "3", b"3", None, [3], torch.zeros(2), torch.zeros((), device="meta")],
    ids=repr,
)
def test_what_is_no_whole_number_is_refused_with_the_value(number):
    with pytest.raises(OptionError, match="expected a whole number of steps"):
        step_number(number)


def test_an_unknown_gain_is_measured_from_the_latents():
    assert measured_gain(torch.full((1, 4, 8, 8), 5.0)) == pytest.approx(0.2)
    assert measured_gain(torch.full((1, 4, 8, 8), 0.5)) == 1.0
    assert measured_gain(torch.full((1, 4, 8, 8), torch.nan)) == 1.0


def test_the_estimate_is_shown_unless_the_noise_is_wanted():
    step = Step(index=1, total=1, denoised=torch.zeros(1), noisy=torch.ones(1), noisy_gain=0.5)
    assert step.latents("denoised") == (step.denoised, 1.0, "denoised")
    assert step.latents("noisy") == (step.noisy, 0.5, "noisy")
