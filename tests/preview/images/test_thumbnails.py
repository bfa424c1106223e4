"""Thumbnails keep a limited number of small copies, spread evenly over the run."""

import numpy as np
import pytest
from safelight.preview.images.thumbnails import Thumbnails


@pytest.mark.parametrize("limit", [2, 3, 8, 48])
@pytest.mark.parametrize("total", [0, 1, 2, 7, 8, 9, 47, 48, 49, 96, 97, 1000])
def test_at_most_the_limit_is_kept_evenly_with_the_first_and_the_last_step(picture, limit, total):
    thumbnails = Thumbnails(limit, 4)
    for index in range(1, total + 1):
        thumbnails.add(picture(index=index, total=total))
        assert len(thumbnails.all()) <= limit
    steps = [thumbnail.index for thumbnail in thumbnails.all()]
    if total <= limit:
        assert steps == list(range(1, total + 1))
    else:
        assert len(steps) > limit / 2
        assert (steps[0], steps[-1]) == (1, total)
        assert len(set(np.diff(steps[:-1]))) <= 1


def test_thumbnails_are_small(picture):
    thumbnails = Thumbnails(4, 3)
    thumbnails.add(picture(height=40, width=60))
    assert thumbnails.all()[0].image.size == (3, 2)


def test_thumbnails_are_copies_of_the_pixels(picture):
    pixels = np.zeros((1, 1, 4, 4, 3), np.uint8)
    thumbnails = Thumbnails(4, 256)
    thumbnails.add(picture(pixels=pixels))
    pixels[:] = 255
    assert thumbnails.all()[0].image.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("total", [1, 2, 3, 4, 9])
def test_a_second_picture_of_the_newest_step_replaces_the_first(picture, total):
    thumbnails = Thumbnails(4, 256)
    for index in range(1, total + 1):
        thumbnails.add(picture(index=index, total=total))
    before = [thumbnail.index for thumbnail in thumbnails.all()]
    thumbnails.add(picture(index=total, total=total, pixels=np.full((1, 1, 4, 4, 3), 9, np.uint8)))
    assert [thumbnail.index for thumbnail in thumbnails.all()] == before
    assert thumbnails.all()[-1].image.getpixel((0, 0)) == (9, 9, 9)
