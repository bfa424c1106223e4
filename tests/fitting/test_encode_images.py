"""Encoding of images of any size for a fit node."""

from dataclasses import replace

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.fitting import encode_images as encode_images_module
from safelight.fitting.encode_images import MAX_CROPS_PER_IMAGE, ImageSet, encode_images, require_image_latents

SD1 = SPACES["sd1"]


def images(*sizes):
    draw = np.random.default_rng(0)
    each = (Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes)
    return ImageSet(sizes=sizes, images=each)


def encode(rgb):
    small = F.avg_pool2d(rgb, 8)
    return F.pad(small, (0, 0, 0, 0, 0, 1))


def encoded(given, space=SD1, downscale=8, on_progress=lambda _: None, seed=0):
    return encode_images(encode, given, space, downscale, seed, "Averages", on_progress)


def test_the_number_of_crops_depends_on_the_image_size():
    dataset = encoded(images((256, 256), (512, 256), (256, 260), (2560, 2560)))
    # One, two, two, and the maximum.
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 1 + 2 + 2 + MAX_CROPS_PER_IMAGE
    assert "crops of 256 px from 4 pictures of the user's, encoded by Averages" in dataset.fitted_on


def test_the_smallest_image_limits_the_crop_size():
    dataset = encoded(images((500, 500), (77, 300), (400, 400)))
    assert dataset.train.pixels.shape[2:] == (72, 72)


def test_images_that_are_too_small_are_refused_with_their_size():
    with pytest.raises(FitError, match=r"at least 32 pixels a side .* got 300x31; give larger images"):
        encoded(images((500, 500), (300, 31), (400, 400)))


def test_two_images_are_too_few():
    with pytest.raises(FitError, match="expected at least 3 images"):
        encoded(images((256, 256), (256, 256)))


def test_progress_is_reported_up_to_the_end():
    shares = []
    encoded(images(*[(256, 256)] * 4), on_progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_an_exception_from_the_callback_ends_the_encoding():
    def cancel(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(images(*[(256, 256)] * 4), on_progress=cancel)


def test_the_same_seed_cuts_the_same_crops():
    one, again, other = (encoded(images(*[(300, 280)] * 4), seed=seed) for seed in (1, 1, 2))
    assert one.judged_on == again.judged_on != other.judged_on


def test_without_images_some_are_generated(monkeypatch):
    monkeypatch.setattr(encode_images_module, "GENERATED_IMAGES", 4)
    shares = []
    dataset = encoded(None, on_progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert dataset.fitted_on == "2 of 4 procedural pictures of 256 px, seed 0, encoded by Averages"


def test_a_vae_of_another_scale_is_refused():
    with pytest.raises(FitError, match=r"latents of 1/8 of the image size, as .* \(sd1\) has them, got 1/16"):
        encode_images(
            lambda rgb: encode(F.avg_pool2d(rgb, 2)), images(*[(256, 256)] * 3), SD1, 16, 0, "Half", lambda _: None
        )


@pytest.mark.parametrize(("space", "why"), [("pixels", "pixels already"), ("stable_audio1", "audio")])
def test_spaces_without_image_latents_are_refused(space, why):
    with pytest.raises(FitError, match=why):
        require_image_latents(SPACES[space])


def test_image_and_video_spaces_are_accepted():
    assert require_image_latents(SD1) is None
    assert require_image_latents(replace(SD1, dims=3)) is None
