"""Videos: frames that are looked at, and animations that play at the right speed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safelight.decoders.catalogue import Candidate
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.base import Net
from safelight.decoders.nets.taehv import Taehv
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
    """Shows the first channel as grey, `stride` times, but once for the first frame."""

    def __init__(self, stride=1, scale=1):
        super().__init__()
        self.stride, self.scale, self.batches = stride, scale, []

    def forward(self, latents):
        grey = latents[:, :1].expand(-1, 3, -1, -1)
        return grey.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)

    def frames(self, latents):
        self.batches.append(len(latents))
        for i, frame in enumerate(latents.unbind(2)):
            for _ in range(self.stride if i else 1):
                yield self(frame)


def developer_of(net, space=WAN, told=None, **options):
    card = Card(name="levels", space=space.name, kind="test", scale=net.scale)
    return RunDecoder(
        space, lambda: [Candidate(card, lambda: Decoder(card, net))], ([] if told is None else told).append, **options
    )


def video(items=1, frames=21, height=2, width=3):
    """Latents whose first channel counts items and frames."""
    levels = torch.arange(items)[:, None] * 100 + torch.arange(frames)
    return (levels / 255)[:, None, :, None, None].expand(items, 16, frames, height, width)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", Run(space="wan21"))
    folder.open()
    return folder


def played(path):
    """Frames of an animation `[T, H, W, 3]`, and how long each is seen."""
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
def test_a_video_takes_as_long_whichever_decoder_makes_it(net, frames, fps):
    developed = developer_of(net).decode(video(), StepInfo(index=1, total=1))
    assert (developed.pixels.shape, developed.fps) == ((1, frames, 2, 3, 3), fps)


@pytest.mark.parametrize("items", [1, 2])
def test_a_decoder_that_knows_time_is_shown_with_all_its_frames(items):
    net = Taehv(16, (8, 8, 8, 8))
    developed = developer_of(net).decode(
        torch.randn(items, 16, 3, 2, 3, generator=torch.Generator().manual_seed(0)), StepInfo(index=1, total=1)
    )
    assert developed.pixels.shape == (items, 9, 16, 24, 3)
    assert (developed.fps, developed.shown) == (16.0, (24, 16))


@pytest.mark.parametrize("net", [Levels(), Levels(4)])
def test_one_frame_has_no_speed(net):
    assert developer_of(net).decode(video(frames=1), StepInfo(index=1, total=1)).fps is None


def test_a_speed_that_nobody_knows_is_not_made_up():
    latents = torch.zeros(1, 16, 3, 2, 2)
    assert developer_of(Levels(), SPACES["seedvr2"]).decode(latents, StepInfo(index=1, total=1)).fps is None


@pytest.mark.parametrize("fps", [1.0, 4.0, 6.0, 16.0, 24.0, 25 / 8, 30.0, 1000.0])
@pytest.mark.parametrize("frames", [2, 21, 81, 1000])
def test_what_is_rounded_adds_up(frames, fps):
    durations = durations_ms(frames, fps)
    assert abs(sum(durations) - 1000 * frames / fps) <= 0.5
    assert max(durations) - min(durations) <= 1


# Memory


def test_of_a_video_that_is_too_large_every_other_frame_is_left_out_and_it_takes_as_long():
    told = []
    developer = developer_of(Levels(4), told=told, max_bytes=2 * 20 * 2 * 3 * 3)
    for _ in range(2):
        developed = developer.decode(video(items=2), StepInfo(index=1, total=1))
        assert developed.pixels[0, :, 0, 0, 0].tolist() == [0, *(level for level in range(2, 21, 2))]
        assert developed.pixels[1, :, 0, 0, 0].tolist() == [100, *(level for level in range(102, 121, 2))]
        assert developed.fps == 2.0
    assert len(told) == 1
    assert "one of 8 frames" in told[0]


@pytest.mark.parametrize(("most", "batches"), [(1 << 22, [5]), (2 * 6 * 64, [2, 2, 1]), (1, [1] * 5)])
def test_large_pictures_of_a_batch_are_decoded_few_at_once(monkeypatch, most, batches):
    monkeypatch.setattr(plan, "MAX_FRAME_PIXELS", most)
    net = Levels(scale=8)
    pixels = (
        developer_of(net).decode(video(items=2, frames=1).repeat(3, 1, 1, 1, 1)[:5], StepInfo(index=1, total=1)).pixels
    )
    assert net.batches == batches
    assert pixels[:, 0, 0, 0, 0].tolist() == [0, 100, 0, 100, 0]


# Files


@pytest.mark.parametrize("fps", [4.0, 6.0, 16.0, None])
def test_a_video_is_an_animation_that_plays_at_its_speed(folder, picture, fps):
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
    told = folder.manifest()["picture"]
    assert (told["items"], told["frames"], told["fps"], told["width"], told["height"]) == (1, 21, fps, 24, 16)
    with Image.open(folder.path / "step_0003.webp") as image:
        exif = image.getexif()
    assert exif[0x010F] == "workflow:{}"
    content = (folder.path / "step_0003.webp").read_bytes()
    at = content.rindex(b"EXIF") + 8
    assert content[at : at + 4] in (b"II*\0", b"MM\0*"), "other programs expect a TIFF there"
    assert json.loads(exif[0x010E].removeprefix("safelight:"))["step"] == 3


@pytest.mark.parametrize(
    ("batch", "names", "size"),
    [
        ("grid", ["step_0001.webp"], (24, 16)),
        ("first", ["step_0001.webp"], (24, 16)),
        ("all files", ["step_0001_item_01.webp", "step_0001_item_02.webp"], (24, 16)),
    ],
)
def test_of_a_batch_of_videos_each_moves(folder, picture, batch, names, size):
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
def test_frames_are_in_files_of_their_own_besides(folder, picture, file_format, batch, encoders):
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
    moving, still = folder.manifest()["steps"]
    assert (moving["files"], moving["folders"]) == ([f"{name}.webp" for name in names], names)
    assert "folders" not in still, "one frame is the picture itself"
    assert {place.name for place in folder.path.iterdir() if place.is_dir()} == set(names)
    for item, name in enumerate(names):
        found = sorted((folder.path / name).iterdir())
        assert [path.name for path in found] == [f"frame_{i:04d}.{file_format}" for i in (1, 2, 3)]
        for frame, path in enumerate(found):
            with Image.open(path) as image:
                assert image.size == ((24, 16) if batch == "all files" else (49, 16))
                if file_format == "png":
                    assert np.array_equal(image, pixels[item, frame])
    files_there = [path for path in folder.path.rglob("*") if path.is_file() and path.name != "run.json"]
    folder.save()
    assert folder.size_bytes == sum(path.stat().st_size for path in [*files_there, folder.path / "run.json"])


def test_a_long_video_is_shorter_on_the_screen_and_takes_as_long(folder, picture):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 81, 10, 10, 3), np.uint8)
    files = StepFiles(folder, ImageEncoding(file_format="jpg"), max_pixels=3000)
    files.open()
    files.show(picture(index=1, pixels=pixels, fps=16.0))
    frames, durations = played(folder.path / "step_0001.webp")
    assert len(frames) == 27
    assert sum(durations) == pytest.approx(81_000 / 16, abs=1)
    told = folder.manifest()["picture"]
    assert (told["frames"], told["fps"]) == (27, 16 / 3)
    assert any("one of 3 frames" in note for note in folder.run.notes)


def test_however_large_the_frames_some_are_left(folder, picture):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 10, 10, 3), np.uint8)
    files = StepFiles(folder, ImageEncoding(file_format="jpg"), max_pixels=1)
    files.open()
    files.show(picture(index=1, pixels=pixels, fps=16.0))
    assert folder.manifest()["picture"]["frames"] == 8


# From the sampler


@pytest.mark.parametrize(("frames", "levels"), [("first", [0]), ("middle", [3]), ("animated", [0, 1, 2, 3, 4, 5, 6])])
def test_of_a_video_those_frames_are_shown_that_were_chosen(pipeline, recorder, step, first_channels, frames, levels):
    sink = recorder()
    with pipeline(sink, net=first_channels(), space="wan21", select=Selection(frames=frames)) as pipe:
        pipe.offer(step(1, denoised=video(items=2, frames=7).clone()))
    [shown] = sink.pictures
    assert shown.pixels.shape == (1, len(levels), 2, 3, 3)
    assert shown.pixels[0, :, 0, 0, 0].tolist() == levels
    assert shown.fps == (4.0 if frames == "animated" else None)
