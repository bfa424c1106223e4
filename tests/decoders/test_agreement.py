"""Tests the comparison of pictures that settles which latent space a decoder is for."""

import pytest
import torch
from safelight.decoders.agreement import (
    AGREEMENT,
    CLEAR_AGREEMENT,
    ENOUGH_PICTURES,
    MAX_PICTURES,
    NO_AGREEMENT,
    Agreement,
    compare_pictures,
)
from safelight.decoders.files.shipped import WEIGHTS, open_shipped
from safetensors.torch import load_file

SIZE = (12, 16)


def picture(seed=0, scale=8):
    """A colorful picture whose detail is larger than a latent pixel."""
    rgb = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))
    return rgb.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def of_value(value, pictures=1):
    return Agreement(pictures, (value * pictures, pictures, pictures), (value * pictures, pictures, pictures))


def test_a_picture_agrees_with_itself_in_any_size_brightness_and_contrast():
    assert compare_pictures(picture(), picture(scale=1), SIZE).value == pytest.approx(1)
    assert compare_pictures(0.3 + 0.4 * picture(), picture(), SIZE).value == pytest.approx(1)


def test_other_pictures_inverted_ones_and_swapped_colors_do_not_agree():
    assert abs(compare_pictures(picture(1), picture(), SIZE).value) < 0.3
    assert compare_pictures(1 - picture(), picture(), SIZE).value == pytest.approx(-1)
    swapped = compare_pictures(picture()[:, [1, 2, 0]], picture(), SIZE)
    assert swapped.value < 0  # the brightness is the same
    gray = picture().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert compare_pictures(gray, picture(), SIZE).value == pytest.approx(0, abs=1e-6)


def test_the_agreement_of_several_pictures_weighs_each_by_its_contrast():
    strong, weak = compare_pictures(picture(), picture(), SIZE), compare_pictures(1 - picture(), picture(), SIZE)
    both = strong + Agreement(1, *(tuple(value / 100 for value in sums) for sums in (weak.luma, weak.chroma)))
    assert both.pictures == 2
    assert both.value == pytest.approx(0.99 / 1.01)


@pytest.mark.parametrize(
    ("rgb", "reference"),
    [
        (picture(), torch.full((1, 3, *SIZE), 0.5)),
        (torch.full((1, 3, *SIZE), 0.5), 0.4 + 0.2 * picture()),
        (picture(), picture().mean(1, keepdim=True).expand(-1, 3, -1, -1)),
        (picture(), 0.48 + 0.04 * picture()),
    ],
    ids=["flat reference", "flat picture", "gray reference", "faint reference"],
)
def test_gray_and_faint_pictures_prove_nothing(rgb, reference):
    assert compare_pictures(rgb, reference, SIZE) is None


def test_a_flat_picture_of_colorful_latents_does_not_agree():
    assert compare_pictures(torch.full((1, 3, *SIZE), 0.5), picture(), SIZE).value == 0


@pytest.mark.parametrize(
    ("agreement", "is_of_space"),
    [
        (Agreement(), None),
        (of_value(CLEAR_AGREEMENT), True),
        (of_value(CLEAR_AGREEMENT - 0.01), None),
        (of_value(NO_AGREEMENT), False),
        (of_value(NO_AGREEMENT + 0.01), None),
        (of_value(0.5, ENOUGH_PICTURES - 1), None),
        (of_value(AGREEMENT + 0.01, ENOUGH_PICTURES), True),
        (of_value(AGREEMENT - 0.01, ENOUGH_PICTURES), None),
        (of_value(NO_AGREEMENT, ENOUGH_PICTURES), False),
    ],
)
def test_one_clear_picture_decides_else_several_do(agreement, is_of_space):
    assert agreement.is_of_space is is_of_space
    assert agreement.is_settled is (is_of_space is not None)


def test_a_decoder_that_many_pictures_do_not_settle_is_not_tried_again():
    half = of_value(0.5, MAX_PICTURES)
    assert (half.is_of_space, half.is_settled) == (None, True)


def test_decoders_of_a_space_agree_on_real_latents_and_shuffled_channels_do_not():
    latents = load_file(WEIGHTS / "demo-flux2-latents.safetensors")["latents"].float()
    table, known = open_shipped("flux2-affine-comfyui"), open_shipped("flux2-conv-small")
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    right, wrong = Agreement(), Agreement()
    for z in latents.split(1):
        right += compare_pictures(table.decode(z), known.decode(z), (64, 64))
        wrong += compare_pictures(table.decode(z[:, order]), known.decode(z), (64, 64))
    assert right.is_of_space is True
    assert wrong.is_of_space is False
    assert right.value > AGREEMENT + 0.1
    assert wrong.value < NO_AGREEMENT
