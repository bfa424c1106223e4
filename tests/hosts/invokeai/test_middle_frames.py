"""The middle frame of a video, the only one that InvokeAI reports, is shown like a still."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.decoder import to_bytes
from safelight.decoders.files.shipped import open_shipped
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.later_frames import later_frame_as_first
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.watch import watched

from .fake_host import euler, wan_video


@pytest.fixture
def last_picture(host, node, tmp_path):
    """A function that runs a node and returns its last picture, `[H, W, 3]`."""

    def run(invoke):
        watched(invoke, host(), node, InvokeOptions(write_intermediates=True, decoder="wan21-affine-comfyui"))
        with Image.open(tmp_path / "outputs" / "safelight" / "steps_00001" / "step_0006.png") as picture:
            return np.asarray(picture.convert("RGB"), int)

    return run


def shown(latents):
    """What the table shows of latents `[1, 16, 1, H, W]`."""
    return to_bytes(open_shipped("wan21-affine-comfyui").decode(latents[:, :, 0]))[0].numpy().astype(int)


def test_the_middle_frame_of_a_run_is_brought_to_the_values_of_a_still(last_picture):
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    x = torch.randn((1, 16, 5, 6, 8), generator=torch.Generator().manual_seed(2))
    truth = []
    picture = last_picture(lambda context: wan_video(context, x, scheduler, truth))
    middle = truth[-1][:, :, None]
    assert np.abs(picture - shown(later_frame_as_first(middle, SPACES["wan21"]))).max() <= 1
    assert np.abs(picture - shown(middle)).mean() > 10


def test_an_image_of_a_video_model_is_shown_as_it_is(last_picture, noise):
    truth = []
    picture = last_picture(lambda context: euler(context, noise, base="wan", truth=truth))
    assert np.abs(picture - shown(truth[-1][:, :, None])).max() <= 1
