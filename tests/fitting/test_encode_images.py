"""What a node fits on: pictures of any size, encoded."""

from dataclasses import replace

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.fitting import encode_images as drawing
from safelight.fitting.encode_images import CROPS_MOST, ImageSet, encode_images, expect_visible

SD1 = SPACES["sd1"]


def pictures(*sizes):
    draw = np.random.default_rng(0)
    each = (Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes)
    return ImageSet(sizes=sizes, each=each)


def encode(rgb):
    small = F.avg_pool2d(rgb, 8)
    return F.pad(small, (0, 0, 0, 0, 0, 1))


def gathered(given, space=SD1, step=8, tell=lambda _: None, seed=0):
    return encode_images(encode, given, space, step, seed, "Averages", tell)


def test_a_picture_has_crops_by_its_size():
    material = gathered(pictures((256, 256), (512, 256), (256, 260), (2560, 2560)))
    # One, two, two, and as many as one picture may have.
    assert sum(map(len, (material.fit, material.choose, material.judge))) == 1 + 2 + 2 + CROPS_MOST
    assert "crops of 256 px from 4 pictures of the user's, encoded by Averages" in material.fitted_on


def test_the_smallest_picture_says_how_large_a_crop_is():
    material = gathered(pictures((500, 500), (77, 300), (400, 400)))
    assert material.fit.pixels.shape[2:] == (72, 72)


def test_pictures_that_say_nothing_are_refused_with_their_size():
    with pytest.raises(FitError, match=r"at least 32 pixels a side .* got 300x31; give larger ones"):
        gathered(pictures((500, 500), (300, 31), (400, 400)))


def test_two_pictures_are_too_few():
    with pytest.raises(FitError, match="expected at least 3 pictures"):
        gathered(pictures((256, 256), (256, 256)))


def test_it_is_told_how_far_it_is_to_the_end():
    told = []
    gathered(pictures(*[(256, 256)] * 4), tell=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_what_is_raised_when_told_ends_it():
    def cancel(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gathered(pictures(*[(256, 256)] * 4), tell=cancel)


def test_the_same_seed_cuts_the_same_crops():
    one, again, other = (gathered(pictures(*[(300, 280)] * 4), seed=seed) for seed in (1, 1, 2))
    assert one.judged_on == again.judged_on != other.judged_on


def test_without_pictures_some_are_drawn(monkeypatch):
    monkeypatch.setattr(drawing, "PROCEDURAL", 4)
    told = []
    material = gathered(None, tell=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert material.fitted_on == "2 of 4 procedural pictures of 256 px, seed 0, encoded by Averages"


def test_a_vae_of_another_scale_is_told():
    with pytest.raises(FitError, match=r"latents of 1/8 of the picture, as .* \(sd1\) has them, got 1/16"):
        encode_images(
            lambda rgb: encode(F.avg_pool2d(rgb, 2)), pictures(*[(256, 256)] * 3), SD1, 16, 0, "Half", lambda _: None
        )


@pytest.mark.parametrize(("space", "why"), [("pixels", "already pictures"), ("stable_audio1", "no pictures")])
def test_where_nothing_is_to_be_fitted_it_is_said(space, why):
    with pytest.raises(FitError, match=why):
        expect_visible(SPACES[space])


def test_what_can_be_seen_can_be_fitted():
    expect_visible(SD1)
    expect_visible(replace(SD1, dims=3))
