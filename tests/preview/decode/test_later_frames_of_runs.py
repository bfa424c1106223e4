"""Later frames of a causal video VAE in a run: every choice of frames shows them as the first frame is shown."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.catalogue import Candidate
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.later_frames import measured_map
from safelight.decoders.nets.base import Net
from safelight.preview.decode.run_decoder import RunDecoder
from safelight.preview.options import RunOptions
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.snapshot import GivenFrames, Selection
from safelight.preview.start import Outputs, start
from safelight.preview.step import Step, StepInfo

WAN, COGVIDEOX = SPACES["wan21"], SPACES["cogvideox"]
STEP = StepInfo(index=1, total=1)


class Gray(Net):
    """Shows the first channel as gray around mid-gray: a table that is right for first frames."""

    def __init__(self, stride=1):
        super().__init__()
        self.stride = stride

    def forward(self, latents):
        return latents[:, :1].expand(-1, 3, -1, -1) + 0.5

    def frames(self, latents):
        for frame in latents.unbind(2):
            yield self(frame)


@pytest.fixture
def clip():
    """A still clip `[1, 16, 7, 24, 32]` of Wan: later frames 1.8 times as wide as the first one."""
    generator = torch.Generator().manual_seed(0)
    first = F.interpolate(torch.randn(1, 16, 6, 8, generator=generator), size=(24, 32), mode="bicubic") * 0.3
    measured = measured_map(WAN)
    later = ((first.movedim(1, -1) - measured.offset) @ torch.linalg.inv(measured.matrix)).movedim(-1, 1)
    return torch.stack([first, torch.lerp(first, later, 0.5), *[later] * 5], dim=2)


def decoder(space=WAN, stride=1, **options):
    card = Card(name="gray", space=space.name, kind="test")
    return RunDecoder(space, lambda: [Candidate(card, lambda: Decoder(card, Gray(stride)))], **options)


def decoded(latents, space=WAN, **options):
    """Pixels `[T, H, W]` of the first color."""
    return decoder(space, **options).decode(latents, STEP).pixels[0, ..., 0].astype(int)


@pytest.mark.parametrize("space", [WAN, COGVIDEOX], ids=lambda space: space.name)
def test_all_frames_of_a_still_clip_look_alike(clip, space):
    shown = decoded(clip, space)
    raw = (clip[0, 0] + 0.5).clamp(0, 1).mul(255).round().int().numpy()
    for frame in range(1, 7):
        before, after = (np.abs(frames[frame] - frames[0]).mean() for frames in (raw, shown))
        assert after < before / 2
    assert np.isin(raw[3], (0, 255)).mean() > 2 * np.isin(shown[3], (0, 255)).mean()


@pytest.mark.parametrize("space", [WAN, COGVIDEOX], ids=lambda space: space.name)
def test_the_middle_frame_alone_looks_as_in_the_animation(clip, space):
    middle = Selection(frames="middle", with_first=True)(clip)
    shown = decoded(middle, space, frames=GivenFrames.FIRST_AND_SHOWN)
    assert shown.shape == (1, 24, 32)
    assert np.abs(shown[0] - decoded(clip, space)[3]).mean() < 3


def test_a_later_frame_without_the_first_one_is_corrected(clip):
    shown = decoded(clip[:, :, 4:5], frames=GivenFrames.ONE_LATER)
    assert np.abs(shown[0] - decoded(clip)[4]).mean() < 3


@pytest.mark.parametrize("frames", list(GivenFrames))
def test_a_decoder_of_videos_gets_all_frames_as_they_are_and_a_single_one_as_a_first_one(clip, frames):
    given = {
        GivenFrames.ALL: clip,
        GivenFrames.FIRST_AND_SHOWN: clip[:, :, [0, 3]],
        GivenFrames.ONE_LATER: clip[:, :, 3:4],
    }
    shown = decoded(given[frames], stride=4, frames=frames)
    raw = (clip[0, 0] + 0.5).clamp(0, 1).mul(255).round().int().numpy()
    if frames is GivenFrames.ALL:
        assert np.array_equal(shown, raw)
    else:
        assert np.abs(shown[0] - raw[0]).mean() < 5


@pytest.mark.parametrize("frames", [GivenFrames.ALL, GivenFrames.FIRST_AND_SHOWN])
def test_stills_are_decoded_to_the_same_bytes(clip, frames):
    still = clip[:, :, :1]
    raw = (still[0, 0] + 0.5).clamp(0, 1).mul(255).round().int().numpy()
    assert np.array_equal(decoded(still, frames=frames), raw)


def test_nan_in_the_first_frame_does_not_mark_the_middle_one(clip):
    clip[:, :, 0, :4] = float("nan")
    pair = clip[:, :, [0, 3]]
    picture = decoder(frames=GivenFrames.FIRST_AND_SHOWN).decode(pair, STEP)
    assert picture.not_finite == 0
    pair[:, :, 1, :12] = float("nan")
    assert decoder(frames=GivenFrames.FIRST_AND_SHOWN).decode(pair, STEP).not_finite == 0.5


@pytest.mark.parametrize("choice", ["first", "middle", "animated", "all files"])
def test_a_run_shows_the_chosen_frames_like_the_first(clip, tmp_path, recorder, candidate, choice):
    sink, run = recorder(), Run(space="wan21")
    pipeline = start(
        run,
        WAN,
        RunOptions(frames=choice),
        Outputs(folder=RunFolder(tmp_path / "run", run), sinks=[sink]),
        candidates=lambda: [candidate(Gray(), space="wan21")],
        shape=clip.shape,
    )
    pipeline.offer(Step(index=1, total=1, denoised=clip))
    pipeline.close("finished")
    [picture] = sink.pictures
    assert picture.pixels.shape[1] == (7 if choice in ("animated", "all files") else 1)
    first = decoded(clip)[0]
    assert np.abs(picture.pixels[0, -1, ..., 0].astype(int) - first).mean() < 5


def test_the_contrast_of_later_frames_does_not_pump_from_step_to_step(clip):
    """The estimates of a run grow from a blurred mean to the video; so does what is shown, at one rate."""
    run = decoder()
    mean = clip.mean((3, 4), keepdim=True)
    ratios = []
    for share in np.linspace(0.1, 1.0, 12):
        shown = run.decode(mean + share * (clip - mean), STEP).pixels[0, ..., 0].astype(float)
        ratios.append(shown[3].std() / shown[0].std())
    assert np.ptp(ratios) < 0.1
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)
