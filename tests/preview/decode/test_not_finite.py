"""Latents that are NaN or infinite: a pattern in the picture, one note, and a mark in the record."""

import numpy as np
import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.preview.decode.not_finite import COLORS, mark_pixels, not_finite_mask, share_of
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.vae_picture import vae_picture

NAN, INF = float("nan"), float("inf")


def test_finite_values_have_no_mask_whatever_their_size():
    assert not_finite_mask(torch.zeros(1, 4, 1, 2, 3)) is None
    assert not_finite_mask(torch.full((1, 4, 1, 2, 3), 3e38)) is None, "their sum is infinite, they are not"
    assert not_finite_mask(torch.full((1, 4, 1, 200, 300), 60000.0, dtype=torch.float16)) is None


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_value_of_one_channel_marks_its_place(value):
    values = torch.zeros(2, 4, 3, 5, 6)
    values[1, 2, 0, 3, 4] = value
    mask = not_finite_mask(values)
    assert mask.nonzero().tolist() == [[1, 0, 3, 4]]
    assert share_of(mask) == pytest.approx(1 / (2 * 3 * 5 * 6))
    assert share_of(None) == 0.0


def test_the_pattern_covers_the_marked_part_and_nothing_else():
    mask = torch.zeros(1, 2, 2, 4, dtype=torch.bool)
    mask[0, 1, :, 3] = True
    pixels = np.full((1, 4, 32, 64, 3), 99, np.uint8)
    mark_pixels(pixels, mask)
    assert (pixels[0, :2] == 99).all()
    assert (pixels[0, 2:, :, :48] == 99).all()
    marked = pixels[0, 2:, :, 48:].reshape(-1, 3)
    assert {tuple(color) for color in marked.tolist()} == set(COLORS)


def test_a_run_with_nan_latents_shows_the_pattern_notes_it_once_and_marks_the_steps(pipeline, recorder, step, tmp_path):
    run, sink = Run(space="sd1"), recorder()
    folder = RunFolder(tmp_path / "run", run)
    half = torch.zeros(1, 4, 2, 4)
    half[..., :2] = NAN
    with pipeline(folder, StepFiles(folder, ImageEncoding()), sink, run=run) as pipe:
        pipe.offer(step(1, 4))
        pipe.offer(step(2, 4, denoised=half))
        pipe.offer(step(3, 4, value=NAN))
        pipe.offer(step(4, 4))
    assert [picture.not_finite for picture in sink.pictures] == [0.0, 0.5, 1.0, 0.0]
    assert {tuple(color) for color in sink.pictures[2].first.reshape(-1, 3).tolist()} <= set(COLORS)
    assert [entry.get("not_finite") for entry in folder.manifest()["steps"]] == [None, 0.5, 1.0, None]
    assert run.notes == [
        (
            "step 2: 50 % of the latents are NaN or infinite. The model's numbers overflowed; this is no fault of the "
            "preview. Run the model in float32 or bfloat16."
        )
    ]


def test_a_vae_that_decodes_to_nan_is_marked_as_well():
    rgb = torch.full((1, 3, 1, 32, 32), 0.5)
    rgb[..., :16, :] = NAN
    picture = vae_picture(rgb, SPACES["sd1"], "a test", None, 0.0)(None)
    assert picture.not_finite == 0.5
    assert (picture.first[16:] == 128).all()
    assert {tuple(color) for color in picture.first[:16].reshape(-1, 3).tolist()} == set(COLORS)
