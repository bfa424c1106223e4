"""Pictures drawn by program: the same for a seed, each another, and with the statistics of photographs."""

import random
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from safelight.errors import FitError
from safelight.fitting.image_crops import MIN_SPREAD
from safelight.fitting.procedural_images import SIDES_PX, pictures

SIZE = 128
COUNT = 32


@pytest.fixture(scope="module")
def some():
    return np.stack(list(pictures(COUNT, SIZE)))


def luma(pixels):
    return pixels.mean(-1) / 255


def spectrum_slope(grey):
    """Of log power over log frequency, from 4 to 48 waves a picture: 0 for noise, about -2 to -3 for photographs."""
    grey = (grey - grey.mean()) * np.outer(np.hanning(len(grey)), np.hanning(len(grey)))
    power = np.abs(np.fft.fft2(grey)) ** 2
    waves = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(len(grey), 1 / len(grey))]))
    bands = np.geomspace(4, 48, 7)
    means = [power[(waves >= low) & (waves < high)].mean() for low, high in pairwise(bands)]
    return np.polyfit(np.log(bands[:-1]), np.log(means), 1)[0]


@pytest.mark.parametrize("size", [16, 33, 128])
def test_pictures_have_the_size_and_number_asked_for(size):
    found = list(pictures(3, size))
    assert [(picture.shape, picture.dtype) for picture in found] == 3 * [((size, size, 3), np.uint8)]


def test_the_same_seed_gives_the_same_pictures_to_the_bit(some):
    again = np.stack(list(pictures(COUNT, SIZE)))
    assert np.array_equal(again, some)


def test_a_picture_does_not_depend_on_how_many_are_asked_for(some):
    first, second = pictures(2, SIZE)
    assert np.array_equal(first, some[0])
    assert np.array_equal(second, some[1])


def test_another_seed_gives_other_pictures(some):
    others = list(pictures(COUNT, SIZE, seed=1))
    assert not any(np.array_equal(one, other) for one in some for other in others)


def test_no_two_pictures_are_alike(some):
    alike = np.corrcoef(luma(some).reshape(COUNT, -1)) - np.eye(COUNT)
    assert alike.max() < 0.9


def test_drawing_leaves_global_random_states_alone():
    before = np.random.get_state(), random.getstate(), torch.get_rng_state()
    list(pictures(2, 16))
    after = np.random.get_state(), random.getstate(), torch.get_rng_state()
    assert before[0][2:] == after[0][2:]
    assert np.array_equal(before[0][1], after[0][1])
    assert before[1] == after[1]
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("size", [16, 64])
def test_no_picture_is_blank(size):
    for picture in pictures(100, size, seed=7):
        assert picture.std(axis=(0, 1)).max() >= MIN_SPREAD


def test_some_pictures_are_calm_and_some_busy(some):
    steps = np.abs(np.diff(luma(some), axis=2)).mean((1, 2))
    assert steps.min() < 0.03
    assert steps.max() > 4 * steps.min()


def test_spectra_fall_as_those_of_photographs_and_not_as_noise(some):
    slopes = [spectrum_slope(luma(picture)) for picture in some]
    assert -3.2 < np.median(slopes) < -1.8
    noise = np.random.default_rng(0).random((SIZE, SIZE))
    assert abs(spectrum_slope(noise)) < 0.3


def test_brightness_differs_more_than_colour_does(some):
    red, green, blue = np.moveaxis(some / 255, -1, 0)
    bright = (red + green + blue).std() / 3**0.5
    orange_blue, green_magenta = (blue - red).std() / 2**0.5, (2 * green - red - blue).std() / 6**0.5
    assert bright > 3 * orange_blue > 3 * green_magenta > 0.05


def test_the_whole_range_is_used_little_of_it_clipped(some):
    low, middle, high = np.percentile(some, (2, 50, 98))
    assert low < 20
    assert 80 < middle < 150
    assert high > 235
    assert ((some == 0) | (some == 255)).mean() < 0.12


def test_a_picture_is_drawn_when_it_is_asked_for():
    endless = pictures(10**9, 16)
    assert next(endless).shape == (16, 16, 3)


def test_a_picture_takes_little_time():
    started = time.process_time()
    list(pictures(5, 64))
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("count", "size", "seed"),
    [(1, SIDES_PX[0] - 1, 0), (1, SIDES_PX[1] + 1, 0), (1, 0, 0), (1, -256, 0), (0, 64, 0), (-1, 64, 0), (1, 64, -1)],
)
def test_nonsense_is_refused_before_anything_is_drawn(count, size, seed):
    with pytest.raises(FitError, match=rf"a size of 16 to 2048 px, .* got {size}, {count} and {seed}"):
        pictures(count, size, seed)
