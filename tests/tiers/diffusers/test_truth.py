"""How true the previews of a pipeline's run are, by the images that it decodes itself."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.diffusers import watch
from tiny_pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]
VIDEOS = ["CogVideoX", "LTX", "Wan"]


def reduced(pixels, size):
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)).astype(float)


def psnr_db(a, b):
    return -10 * np.log10(np.square((a - b) / 255).mean())


def pixels(image):
    return (np.asarray(image) * 255).round().clip(0, 255).astype(np.uint8)


def preview(run, frame=0):
    return run.pictures[-1].pixels[0, frame]


def test_the_last_preview_is_compared_with_the_image_of_the_pipeline(sd1, tmp_path):
    with watch(sd1, tmp_path, screen="off") as run:
        images = np.asarray(SD1.run(sd1))
    truth = run.manifest()["truth"]
    last = run.pictures[-1]
    size = last.shown[0] // 8, last.shown[1] // 8
    expected = psnr_db(reduced(preview(run), size), reduced(pixels(images[0]), size))
    assert truth["psnr_db"] == pytest.approx(expected, abs=0.05)
    assert (truth["step"], truth["decoder"]) == (last.index, last.decoder)
    assert truth["psnr_db"] < 60  # so that it is no comparison of a picture with itself


@pytest.mark.parametrize("frames", ["first", "middle"])
@pytest.mark.parametrize("family", VIDEOS)
def test_the_frame_of_a_video_is_compared_with_the_same_frame(make, family, frames, tmp_path):
    tiny, pipe = make(family)
    with watch(pipe, tmp_path, screen="off", frames=frames) as run:
        video = np.asarray(tiny.run(pipe))[0]
    row, count = SPACES[tiny.space], tiny.latents[1]
    last = run.pictures[-1]
    size = last.shown[0] // row.downscale, last.shown[1] // row.downscale
    stride, shown = row.frame_stride, 0 if frames == "first" else count // 2
    # The images that a latent frame is decoded to; the first one of a causal VAE is decoded to one.
    images = [0] if shown == 0 else range((shown - 1) * stride + 1, shown * stride + 1)
    images = [shown] if stride == 1 else images
    expected = [psnr_db(reduced(preview(run), size), reduced(pixels(video[i]), size)) for i in images]
    assert any(run.manifest()["truth"]["psnr_db"] == pytest.approx(each, abs=0.1) for each in expected)


def test_an_image_that_is_not_decoded_proves_nothing(sd1, tmp_path):
    with watch(sd1, tmp_path, screen="off") as run:
        SD1.run(sd1, output_type="latent")
    assert run.manifest()["truth"]["psnr_db"] is None


def test_each_run_is_compared_with_its_own_image(sd1, tmp_path):
    with watch(sd1, tmp_path, screen="off") as run:
        for seed in range(2):
            SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
    alone = []
    for seed in range(2):
        with watch(sd1, tmp_path, screen="off") as single:
            SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
        alone.append(single.manifest()["truth"]["psnr_db"])
    assert [each.manifest()["truth"]["psnr_db"] for each in run.runs] == alone
    assert alone[0] != alone[1]


def test_only_the_newest_runs_have_pictures_to_compare(sd1, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[watch.__module__], "RUNS_IN_MEMORY", 1)
    with watch(sd1, tmp_path, screen="off") as run:
        for seed in range(3):
            SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
            run.runs[-1].settle()
    assert [bool(each._truth._steps) for each in run.runs] == [False, False, True]
    assert all(each.manifest()["truth"]["psnr_db"] for each in run.runs)


def test_a_decode_that_cannot_be_compared_costs_nothing(sd1, tmp_path, monkeypatch):
    decode = sd1.vae.decode
    monkeypatch.setattr(sd1.vae, "decode", lambda *args, **kwargs: (decode(*args, **kwargs)[0][:, :1],))
    with watch(sd1, tmp_path, screen="off") as run:
        SD1.run(sd1, output_type="pt")
    assert run.manifest()["truth"]["psnr_db"] is None
    assert run.notes == []
