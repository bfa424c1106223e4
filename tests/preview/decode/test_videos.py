"""Videos: the frames that are shown, and animations at the right speed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safelight.decoders.catalogue import Candidate
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.base import Net
from safelight.decoders.nets.taehv import Taehv, taehv
from safelight.preview.decode import plan
from safelight.preview.decode.run_decoder import RunDecoder
from safelight.preview.images.encode import UNKNOWN_FPS, ImageEncoding, durations_ms
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.snapshot import Selection
from safelight.preview.step import StepInfo

WAN = SPACES["wan21"]


class Levels(Net):
    """Shows the first channel as gray. Each latent frame gives `stride` frames, the first one gives one."""

    def __init__(self, stride=1, scale=1):
        super().__init__()
        self.stride, self.scale, self.batches = stride, scale, []

    def forward(self, latents):
        gray = latents[:, :1].expand(-1, 3, -1, -1)
        return gray.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)

    def frames(self, latents):
        self.batches.append(len(latents))
        for i, frame in enumerate(latents.unbind(2)):
            for _ in range(self.stride if i else 1):
                yield self(frame)


def decoder_of(net, space=WAN, **options):
    card = Card(name="levels", space=space.name, kind="test", scale=net.scale)
    return RunDecoder(space, lambda: [Candidate(card, lambda: Decoder(card, net))], **options)


def video(items=1, frames=21, height=2, width=3):
    """Latents whose first channel is the number of the frame, plus 100 for the second item."""
    levels = torch.arange(items)[:, None] * 100 + torch.arange(frames)
    return (levels / 255)[:, None, :, None, None].expand(items, 16, frames, height, width)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", Run(space="wan21"))
    folder.open()
    return folder


def played(path):
    """The frames of an animation `[T, H, W, 3]`, and the duration of each."""
    frames, durations = [], []
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            frame.load()
            frames.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info["duration"])
        assert (image.format, image.info["loop"]) == ("WEBP", 0)
    return np.stack(frames), durations


# Speed


@pytest.mark.parametrize(
    ("net", "frames", "fps"), [(Levels(), 21, 4.0), (Levels(4), 81, 16.0), (Levels(2), 41, 8.0)], ids=["1", "4", "2"]
)
def test_a_video_has_the_same_duration_with_every_decoder(net, frames, fps):
    picture = decoder_of(net).decode(video(), StepInfo(index=1, total=1))
    assert (picture.pixels.shape, picture.fps) == ((1, frames, 2, 3, 3), fps)


@pytest.mark.parametrize("items", [1, 2])
def test_all_frames_of_a_video_decoder_are_shown(items):
    net = Taehv(taehv(16, (8, 8, 8, 8)))
    picture = decoder_of(net).decode(
        torch.randn(items, 16, 3, 2, 3, generator=torch.Generator().manual_seed(0)), StepInfo(index=1, total=1)
    )
    assert picture.pixels.shape == (items, 9, 16, 24, 3)
    assert (picture.fps, picture.shown) == (16.0, (24, 16))


@pytest.mark.parametrize("net", [Levels(), Levels(4)])
def test_a_single_frame_has_no_fps(net):
    assert decoder_of(net).decode(video(frames=1), StepInfo(index=1, total=1)).fps is None


def test_an_unknown_frame_rate_is_none():
    latents = torch.zeros(1, 16, 3, 2, 2)
    assert decoder_of(Levels(), SPACES["seedvr2"]).decode(latents, StepInfo(index=1, total=1)).fps is None


@pytest.mark.parametrize("fps", [1.0, 4.0, 6.0, 16.0, 24.0, 25 / 8, 30.0, 1000.0])
@pytest.mark.parametrize("frames", [2, 21, 81, 1000])
def test_rounded_frame_durations_add_up_to_the_length_of_the_video(frames, fps):
    durations = durations_ms(frames, fps)
    assert abs(sum(durations) - 1000 * frames / fps) <= 0.5
    assert max(durations) - min(durations) <= 1


# Memory


def test_frames_of_a_large_video_are_skipped_and_its_duration_stays():
    notes = []
    decoder = decoder_of(Levels(4), notify=notes.append, max_bytes=2 * 20 * 2 * 3 * 3)
    for _ in range(2):
        picture = decoder.decode(video(items=2), StepInfo(index=1, total=1))
        assert picture.pixels[0, :, 0, 0, 0].tolist() == [0, *(level for level in range(2, 21, 2))]
        assert picture.pixels[1, :, 0, 0, 0].tolist() == [100, *(level for level in range(102, 121, 2))]
        assert picture.fps == 2.0
    assert len(notes) == 1
    assert "one of 8 frames" in notes[0]


@pytest.mark.parametrize(("most", "batches"), [(1 << 22, [5]), (2 * 6 * 64, [2, 2, 1]), (1, [1] * 5)])
def test_large_pictures_of_a_batch_are_decoded_in_smaller_batches(monkeypatch, most, batches):
    monkeypatch.setattr(plan, "MAX_FRAME_PIXELS", most)
    net = Levels(scale=8)
    pixels = (
        decoder_of(net).decode(video(items=2, frames=1).repeat(3, 1, 1, 1, 1)[:5], StepInfo(index=1, total=1)).pixels
    )
    assert net.batches == batches
    assert pixels[:, 0, 0, 0, 0].tolist() == [0, 100, 0, 100, 0]


# Files


@pytest.mark.parametrize("fps", [4.0, 6.0, 16.0, None])
def test_the_file_of_a_video_is_an_animation_at_its_frame_rate(folder, picture, fps):
    pixels = (np.arange(21, dtype=np.uint8) * 12)[None, :, None, None, None].repeat(16, 2).repeat(24, 3).repeat(3, 4)
    files = StepFiles(folder, ImageEncoding(), texts=lambda: {"workflow": "{}"})
    files.open()
    files.show(picture(index=3, pixels=pixels, fps=fps))
    [step] = folder.manifest()["steps"]
    assert step["files"] == ["step_0003.webp"]
    frames, durations = played(folder.path / "step_0003.webp")
    assert durations == durations_ms(21, fps)
    assert abs(sum(durations) - 21_000 / (fps or UNKNOWN_FPS)) <= 0.5
    assert np.abs(frames.astype(int) - pixels[0]).max() <= 4
    facts = folder.manifest()["picture"]
    assert (facts["items"], facts["frames"], facts["fps"], facts["width"], facts["height"]) == (1, 21, fps, 24, 16)
    with Image.open(folder.path / "step_0003.webp") as image:
        exif = image.getexif()
    assert exif[0x010F] == "workflow:{}"
    content = (folder.path / "step_0003.webp").read_bytes()
    at = content.rindex(b"EXIF") + 8
    assert content[at : at + 4] in (b"II*\0", b"MM\0*"), "other programs expect a TIFF header there"
    assert json.loads(exif[0x010E].removeprefix("safelight:"))["step"] == 3


@pytest.mark.parametrize(
    ("batch", "names", "size"),
    [
        ("grid", ["step_0001.webp"], (24, 16)),
        ("first", ["step_0001.webp"], (24, 16)),
        ("all files", ["step_0001_item_01.webp", "step_0001_item_02.webp"], (24, 16)),
    ],
)
def test_each_video_of_a_batch_is_animated(folder, picture, batch, names, size):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, *size[::-1], 3), np.uint8)
    files = StepFiles(folder, ImageEncoding(), batch=batch, encoders=2, small_bytes=0)
    files.open()
    files.show(picture(index=1, pixels=pixels, fps=8.0))
    files.close("finished")
    files.close("finished")
    assert folder.manifest()["steps"][0]["files"] == names
    for name in names:
        frames, _ = played(folder.path / name)
        assert frames.shape == (5, size[1], size[0] * 2 + 1 if batch == "grid" else size[0], 3)


@pytest.mark.parametrize("encoders", [0, 2])
@pytest.mark.parametrize(("file_format", "batch"), [("png", "all files"), ("jpg", "grid")])
def test_each_frame_also_has_its_own_file(folder, picture, file_format, batch, encoders):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24, 3), np.uint8)
    files = StepFiles(
        folder, ImageEncoding(file_format=file_format), batch=batch, encoders=encoders, small_bytes=0, frames_apart=True
    )
    files.open()
    files.show(picture(index=7, pixels=pixels, fps=8.0))
    files.show(picture(index=8, pixels=pixels[:, :1]))
    files.close("finished")
    files.close("finished")
    names = ["step_0007_item_01", "step_0007_item_02"] if batch == "all files" else ["step_0007"]
    video, still = folder.manifest()["steps"]
    assert (video["files"], video["folders"]) == ([f"{name}.webp" for name in names], names)
    assert "folders" not in still, "one frame is the picture itself"
    assert {path.name for path in folder.path.iterdir() if path.is_dir()} == set(names)
    for item, name in enumerate(names):
        found = sorted((folder.path / name).iterdir())
        assert [path.name for path in found] == [f"frame_{i:04d}.{file_format}" for i in (1, 2, 3)]
        for frame, path in enumerate(found):
            with Image.open(path) as image:
                assert image.size == ((24, 16) if batch == "all files" else (49, 16))
                if file_format == "png":
                    assert np.array_equal(image, pixels[item, frame])
    folder.save()
    assert folder.size_bytes == sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())


def test_the_live_view_skips_frames_of_a_long_video_and_keeps_its_duration(folder, picture):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 81, 10, 10, 3), np.uint8)
    files = StepFiles(folder, ImageEncoding(file_format="jpg"), max_pixels=3000)
    files.open()
    files.show(picture(index=1, pixels=pixels, fps=16.0))
    frames, durations = played(folder.path / "step_0001.webp")
    assert len(frames) == 27
    assert sum(durations) == pytest.approx(81_000 / 16, abs=1)
    facts = folder.manifest()["picture"]
    assert (facts["frames"], facts["fps"]) == (27, 16 / 3)
    assert any("one of 3 frames" in note for note in folder.run.notes)


def test_some_frames_are_left_at_any_size(folder, picture):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 10, 10, 3), np.uint8)
    files = StepFiles(folder, ImageEncoding(file_format="jpg"), max_pixels=1)
    files.open()
    files.show(picture(index=1, pixels=pixels, fps=16.0))
    assert folder.manifest()["picture"]["frames"] == 8


# From the sampler


@pytest.mark.parametrize(("frames", "levels"), [("first", [0]), ("middle", [3]), ("animated", [0, 1, 2, 3, 4, 5, 6])])
def test_the_chosen_frames_of_a_video_are_shown(pipeline, recorder, step, first_channels, frames, levels):
    sink = recorder()
    with pipeline(sink, net=first_channels(), space="wan21", select=Selection(frames=frames)) as pipe:
        pipe.offer(step(1, denoised=video(items=2, frames=7).clone()))
    [shown] = sink.pictures
    assert shown.pixels.shape == (1, len(levels), 2, 3, 3)
    assert shown.pixels[0, :, 0, 0, 0].tolist() == levels
    assert shown.fps == (4.0 if frames == "animated" else None)
