"""Generated images: repeatable, different from each other, with the statistics of photographs."""

import random
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from safelight.errors import FitError
from safelight.fitting.image_crops import MIN_SPREAD
from safelight.fitting.procedural_images import SIDES_PX, generate_images

SIZE = 128
COUNT = 32


@pytest.fixture(scope="module")
def images():
    return np.stack(list(generate_images(COUNT, SIZE)))


def luma(pixels):
    return pixels.mean(-1) / 255


def spectrum_slope(gray):
    """Fits log power over log frequency, 4 to 48 waves per image: 0 for noise, about -2 to -3 for photographs."""
    gray = (gray - gray.mean()) * np.outer(np.hanning(len(gray)), np.hanning(len(gray)))
    power = np.abs(np.fft.fft2(gray)) ** 2
    waves = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(len(gray), 1 / len(gray))]))
    bands = np.geomspace(4, 48, 7)
    means = [power[(waves >= low) & (waves < high)].mean() for low, high in pairwise(bands)]
    return np.polyfit(np.log(bands[:-1]), np.log(means), 1)[0]


@pytest.mark.parametrize("size", [16, 33, 128])
def test_images_have_the_requested_size_and_number(size):
    found = list(generate_images(3, size))
    assert [(picture.shape, picture.dtype) for picture in found] == 3 * [((size, size, 3), np.uint8)]


def test_the_same_seed_gives_bit_identical_images(images):
    again = np.stack(list(generate_images(COUNT, SIZE)))
    assert np.array_equal(again, images)


def test_an_image_does_not_depend_on_the_number_of_images(images):
    first, second = generate_images(2, SIZE)
    assert np.array_equal(first, images[0])
    assert np.array_equal(second, images[1])


def test_another_seed_gives_other_images(images):
    others = list(generate_images(COUNT, SIZE, seed=1))
    assert not any(np.array_equal(image, other) for image in images for other in others)


def test_no_two_images_are_similar(images):
    alike = np.corrcoef(luma(images).reshape(COUNT, -1)) - np.eye(COUNT)
    assert alike.max() < 0.9


def test_generating_does_not_change_global_random_states():
    before = np.random.get_state(), random.getstate(), torch.get_rng_state()
    list(generate_images(2, 16))
    after = np.random.get_state(), random.getstate(), torch.get_rng_state()
    assert before[0][2:] == after[0][2:]
    assert np.array_equal(before[0][1], after[0][1])
    assert before[1] == after[1]
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("size", [16, 64])
def test_no_image_is_blank(size):
    for picture in generate_images(100, size, seed=7):
        assert picture.std(axis=(0, 1)).max() >= MIN_SPREAD


def test_some_images_are_calm_and_some_are_busy(images):
    steps = np.abs(np.diff(luma(images), axis=2)).mean((1, 2))
    assert steps.min() < 0.03
    assert steps.max() > 4 * steps.min()


def test_spectra_fall_as_those_of_photographs(images):
    slopes = [spectrum_slope(luma(picture)) for picture in images]
    assert -3.2 < np.median(slopes) < -1.8
    noise = np.random.default_rng(0).random((SIZE, SIZE))
    assert abs(spectrum_slope(noise)) < 0.3


def test_brightness_varies_more_than_color(images):
    red, green, blue = np.moveaxis(images / 255, -1, 0)
    bright = (red + green + blue).std() / 3**0.5
    orange_blue, green_magenta = (blue - red).std() / 2**0.5, (2 * green - red - blue).std() / 6**0.5
    assert bright > 3 * orange_blue > 3 * green_magenta > 0.05


def test_images_use_the_whole_range_with_little_clipping(images):
    low, middle, high = np.percentile(images, (2, 50, 98))
    assert low < 20
    assert 80 < middle < 150
    assert high > 235
    assert ((images == 0) | (images == 255)).mean() < 0.12


def test_an_image_is_generated_when_the_iterator_reaches_it():
    endless = generate_images(10**9, 16)
    assert next(endless).shape == (16, 16, 3)


def test_generating_an_image_takes_little_time():
    started = time.process_time()
    list(generate_images(5, 64))
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("count", "size", "seed"),
    [(1, SIDES_PX[0] - 1, 0), (1, SIDES_PX[1] + 1, 0), (1, 0, 0), (1, -256, 0), (0, 64, 0), (-1, 64, 0), (1, 64, -1)],
)
def test_invalid_arguments_are_refused_before_an_image_is_generated(count, size, seed):
    with pytest.raises(FitError, match=rf"a size of 16 to 2048 px, .* got {size}, {count} and {seed}"):
        generate_images(count, size, seed)
