"""A decoded picture and a run in a Python user's hands."""

import numpy as np
import pytest
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.step import StepInfo


def picture_of(shape, sigma=0.421875, show="denoised"):
    pixels = np.arange(np.prod(shape) * 3, dtype=np.int64).astype(np.uint8).reshape((*shape, 3))
    step = StepInfo(index=3, total=20, sigma=sigma, show=show)
    card = Card(name="flux2-affine", space="flux2", kind="polynomial")
    return DecodedPicture(step=step, pixels=pixels, shown=(96, 64), card=card, decode_ms=1.0)


def test_a_picture_is_an_image_of_pillow():
    picture = picture_of((1, 1, 8, 12))
    assert isinstance(picture.image, Image.Image)
    assert picture.image.size == (12, 8)
    assert (np.asarray(picture.image) == picture.first).all()


def test_the_image_of_a_batch_is_a_grid_and_that_of_a_video_its_middle_frame():
    assert picture_of((4, 1, 8, 12)).image.width > 24
    video = picture_of((1, 5, 8, 12))
    assert (np.asarray(video.image) == video.pixels[0, 2]).all()


@pytest.mark.parametrize(
    ("shape", "facts", "text"),
    [
        ((1, 1, 8, 12), {}, "<step 3 of 20, sigma 0.422: 12x8, denoised, flux2-affine>"),
        ((1, 1, 8, 12), {"sigma": None, "show": "noisy"}, "<step 3 of 20: 12x8, noisy, flux2-affine>"),
        ((2, 5, 8, 12), {}, "<step 3 of 20, sigma 0.422: 12x8, 2 pictures, 5 frames, denoised, flux2-affine>"),
    ],
)
def test_the_repr_of_a_picture_is_one_short_line(shape, facts, text):
    assert repr(picture_of(shape, **facts)) == text


def test_the_repr_of_a_run_is_one_short_line():
    run = Run(id="12345678-9", host={"name": "diffusers"}, sampler={"name": "Euler", "seed": 7, "sigmas": [1.0] * 999})
    assert repr(run) == "<Run 12345678 of diffusers: Euler, 7>"
    assert repr(Run(id="12345678-9")) == "<Run 12345678 of no host>"
