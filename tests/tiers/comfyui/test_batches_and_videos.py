"""Batches, videos and videos with audio on a real server: all are shown, and the result stays the same."""

import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageSequence
from safetensors import safe_open

from ... import older

STEPS = 3


@pytest.fixture
def kept(request, server, wire):
    """Runs a job with the node, which writes its steps, and without; returns the events and the folder."""
    name = re.sub(r"\W+", "_", request.node.name)

    def play(latent_format, *, preview, more=None, **settings):
        formats = server.inputs_of("LabModel")["latent_format"][0]
        older.expect(latent_format in formats, "ComfyUI", server.version, f"latent format {latent_format}")
        inputs = {"write_intermediates": True, "filename_prefix": f"more/{name}", **preview}
        graph = wire(latent_format, preview=inputs, steps=STEPS, spy=f"spied/{name}", **settings)
        if more is not None:
            more(graph)
        watched, bare = server.play(graph), server.play(wire.without_preview(graph))
        assert watched.ends == bare.ends == ["execution_success"], watched.named("execution_error")
        assert watched.digest == bare.digest, "the sampler's result is another one"
        return watched, server.output / f"more/{name}_00001"

    def denoised():
        with safe_open(server.output / f"spied/{name}_1.safetensors", framework="pt") as file:
            return file.get_tensor("x0")

    play.denoised = denoised
    return play


def manifest_of(folder):
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    listed = {name for step in manifest["steps"] for name in step["files"]}
    assert {path.name for path in folder.iterdir()} == listed | {"run.json", "index.html"}
    assert [step["index"] for step in manifest["steps"]] == list(range(1, STEPS + 1))
    return manifest


def live(server, played):
    """The manifest of a run as the node receives it, and its pictures by name."""
    run = played.named("safelight.step")[-1].data["run"]
    manifest = server.get(f"/safelight/runs/{run}").json()
    names = [name for step in manifest["steps"] for name in step["files"]]
    answers = {name: server.get(f"/safelight/runs/{run}/{name}") for name in names}
    assert {answer.status for answer in answers.values()} == {200}
    ending = {"jpg": "image/jpeg", "webp": "image/webp"}
    assert all(answer.headers["content-type"] == ending[name.split(".")[-1]] for name, answer in answers.items())
    return manifest, {name: answer.body for name, answer in answers.items()}


def frames_of(content):
    """Frames `[T, H, W, 3]` of a picture file, and their total duration in milliseconds."""
    with Image.open(io.BytesIO(content)) as image:
        frames, duration = [], 0
        for frame in ImageSequence.Iterator(image):
            frame.load()
            frames.append(np.asarray(frame.convert("RGB")))
            duration += frame.info.get("duration", 0)
    return np.stack(frames), duration


def pixels_of(latents):
    """Converts the lab's pixel space, `[3, H, W]` in -1..1, to `[H, W, 3]` bytes."""
    return ((latents.double() / 2 + 0.5).clamp(0, 1) * 255).round().movedim(0, -1).numpy()


# Batches


BATCH = {"flow": True, "width": 96, "height": 64, "batch": 4}


def test_a_batch_of_four_is_written_as_a_grid(kept, server):
    played, folder = kept("ChromaRadiance", preview={}, **BATCH)
    manifest = manifest_of(folder)
    x0 = kept.denoised()
    for step, latents in zip(manifest["steps"], x0, strict=True):
        assert step["files"] == [f"step_{step['index']:04d}.png"]
        [whole], _ = frames_of((folder / step["files"][0]).read_bytes())
        assert whole.shape == (64 * 2 + 1, 96 * 2 + 1, 3)
        for item in range(4):
            y, x = item // 2 * 65, item % 2 * 97
            assert np.abs(whole[y : y + 64, x : x + 96] - pixels_of(latents[item])).max() <= 1
    shown, pictures = live(server, played)
    assert (shown["picture"]["items"], shown["picture"]["width"]) == (4, 96)
    last = [f"step_000{STEPS}_item_{n:02d}.jpg" for n in (1, 2, 3, 4)]
    assert shown["steps"][-1]["files"] == last
    for item, name in enumerate(last):
        [picture], _ = frames_of(pictures[name])
        assert np.abs(picture - pixels_of(x0[-1, item])).mean() < 8
    assert played.named("safelight.step")[-1].data["files"] == last


def test_a_batch_of_four_is_written_as_four_files(kept):
    _, folder = kept("ChromaRadiance", preview={"batch": "all files"}, **BATCH)
    manifest = manifest_of(folder)
    for step, latents in zip(manifest["steps"], kept.denoised(), strict=True):
        assert step["files"] == [f"step_{step['index']:04d}_item_{n:02d}.png" for n in (1, 2, 3, 4)]
        for item, name in enumerate(step["files"]):
            [picture], _ = frames_of((folder / name).read_bytes())
            assert np.abs(picture - pixels_of(latents[item])).max() <= 1
    assert manifest["picture"]["items"] == 4


def test_only_the_first_of_a_batch_is_written_if_batch_is_first(kept, server):
    played, folder = kept("ChromaRadiance", preview={"batch": "first"}, **BATCH)
    for step, latents in zip(manifest_of(folder)["steps"], kept.denoised(), strict=True):
        [picture], _ = frames_of((folder / f"step_{step['index']:04d}.png").read_bytes())
        assert np.abs(picture - pixels_of(latents[0])).max() <= 1
    shown, _ = live(server, played)
    assert (shown["picture"]["items"], shown["steps"][-1]["files"]) == (1, [f"step_000{STEPS}.jpg"])


def test_the_node_shows_part_of_a_large_batch_and_all_files_has_every_item(kept, server):
    played, folder = kept("SD15", preview={"batch": "all files"}, batch=40)
    assert {len(step["files"]) for step in manifest_of(folder)["steps"]} == {40}
    shown, _ = live(server, played)
    assert len(shown["steps"][-1]["files"]) == shown["picture"]["items"] == 16
    assert any("first 16" in note and "40" in note for note in shown["notes"])
    assert max(event.size for event in played.named("safelight.step")) < 1000


# Videos


@pytest.mark.parametrize(("latent_format", "fps"), [("Wan21", 4.0), ("HunyuanVideo", 6.0), ("CogVideoX", 2.0)])
def test_an_animated_video_plays_at_the_models_speed(kept, server, latent_format, fps):
    played, folder = kept(latent_format, preview={"frames": "animated"}, flow=True, frames=7)
    manifest = manifest_of(folder)
    shown, pictures = live(server, played)
    for told, content in (
        (manifest, (folder / f"step_000{STEPS}.webp").read_bytes()),
        (shown, pictures[f"step_000{STEPS}.webp"]),
    ):
        frames, duration = frames_of(content)
        assert frames.shape == (7, 16, 24, 3)
        assert duration == round(7000 / fps)
        assert (told["picture"]["frames"], told["picture"]["fps"]) == (7, fps)
        assert np.abs(frames[0].astype(int) - frames[3]).mean() > 5, "nothing moves"


def test_all_files_also_writes_each_frame_of_each_step(kept, server):
    played, folder = kept("Wan21", preview={"frames": "all files"}, flow=True, frames=7)
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    shown, _ = live(server, played)
    assert "frames" not in shown["steps"][0], "the node shows what moves"
    for step in manifest["steps"]:
        assert step["folders"] == [f"step_000{step['index']}"]
        moving, _ = frames_of((folder / step["files"][0]).read_bytes())
        apart = sorted((folder / step["folders"][0]).iterdir())
        assert [path.name for path in apart] == [f"frame_000{i}.png" for i in range(1, 8)]
        stills = np.concatenate([frames_of(path.read_bytes())[0] for path in apart])
        assert stills.shape == moving.shape
        distances = np.abs(stills[:, None].astype(int) - moving[None]).mean((2, 3, 4))
        assert distances.argmin(1).tolist() == list(range(7)), "a frame is another one than that of the moving picture"


def test_a_video_plays_at_the_frame_rate_of_the_conditioning(kept, server):
    def conditioned(graph):
        inputs = {"positive": ["1", 1], "negative": ["1", 1], "frame_rate": 12.0}
        graph["20"] = {"class_type": "LTXVConditioning", "inputs": inputs}
        graph["4"]["inputs"] |= {"positive": ["20", 0], "negative": ["20", 1]}

    _, folder = kept("LTXV", preview={"frames": "animated"}, more=conditioned, flow=True, frames=5)
    assert manifest_of(folder)["picture"]["fps"] == 12 / 8


# Videos in the batch


FOLDED = {"width": 24, "height": 16, "batch": 5, "video_batch": "svd"}


@pytest.mark.parametrize("video_batch", ["svd", "animatediff"])
def test_frames_that_are_the_batch_are_animated(kept, server, video_batch):
    played, folder = kept("SD15", preview={"frames": "animated"}, **FOLDED | {"video_batch": video_batch})
    manifest = manifest_of(folder)
    assert (manifest["picture"]["items"], manifest["picture"]["frames"], manifest["notes"]) == (1, 5, [])
    assert manifest["sampler"]["shape"] == [1, 4, 5, 16, 24]
    assert [step["files"] for step in manifest["steps"]] == [[f"step_000{n}.webp"] for n in range(1, STEPS + 1)]
    moving, _ = frames_of((folder / f"step_000{STEPS}.webp").read_bytes())
    assert len(moving) == 5
    shown, pictures = live(server, played)
    assert [len(frames_of(pictures[step["files"][0]])[0]) for step in shown["steps"]] == [5] * STEPS


def test_the_first_frame_of_a_video_in_the_batch_is_one_picture(kept):
    _, folder = kept("SD15", preview={}, **FOLDED)
    picture = manifest_of(folder)["picture"]
    assert (picture["items"], picture["frames"], picture["fps"]) == (1, 1, None)
    [still], _ = frames_of((folder / f"step_000{STEPS}.png").read_bytes())
    _, whole = kept("SD15", preview={"frames": "all files", "filename_prefix": "more/whole"}, **FOLDED)
    frame = whole.parent / "whole_00001" / f"step_000{STEPS}" / "frame_0001.png"
    assert frames_of(frame.read_bytes())[0].shape[1:] == still.shape


def test_a_video_in_the_batch_plays_at_the_rate_of_its_conditioning(kept):
    def conditioned(graph):
        graph["20"] = {"class_type": "LabConditioned", "inputs": {"conditioning": ["1", 1], "fps": 6}}
        graph["4"]["inputs"] |= {"positive": ["20", 0]}

    _, folder = kept("SD15", preview={"frames": "animated"}, more=conditioned, **FOLDED)
    assert manifest_of(folder)["picture"]["fps"] == 6


@pytest.mark.parametrize("frames", ["middle", "animated", "all files"])
def test_frames_of_a_batch_of_images_are_not_ignored_without_a_word(kept, frames):
    _, folder = kept("SD15", preview={"frames": frames}, batch=5)
    [note] = manifest_of(folder)["notes"]
    assert note.startswith("frames has no effect: ComfyUI reports 5 images, not the frames of a video")


def test_frames_of_a_single_image_need_no_word(kept):
    _, folder = kept("SD15", preview={"frames": "animated"})
    assert manifest_of(folder)["notes"] == []


def test_another_program_can_play_an_animated_step(kept):
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe")
    _, folder = kept("Wan21", preview={"frames": "animated"}, flow=True, frames=7)
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "json"]
    done = subprocess.run([*command, folder / "step_0001.webp"], capture_output=True, text=True, check=True)
    assert "Exif" not in done.stderr, "it finds no graph in the file"
    [stream] = json.loads(done.stdout)["streams"]
    assert stream["codec_name"] == "webp"


def test_the_middle_frame_differs_from_the_first(kept):
    _, folder = kept("Wan21", preview={"frames": "middle", "decoder": "wan21-affine-comfyui"}, flow=True, frames=7)
    latents = kept.denoised()[-1, 0]
    [picture], _ = frames_of((folder / f"step_000{STEPS}.png").read_bytes())
    assert manifest_of(folder)["picture"]["frames"] == 1
    from safelight.decoders.decoder import to_bytes
    from safelight.decoders.files.shipped import open_shipped

    decoder = open_shipped("wan21-affine-comfyui")
    distances = [
        np.abs(to_bytes(decoder.decode(latents[None, :, at]))[0].numpy().astype(int) - picture).max() for at in range(7)
    ]
    assert np.argmin(distances) == 3
    assert distances[3] <= 1


def test_a_batch_of_videos_is_an_animated_grid(kept, server):
    played, folder = kept("Wan21", preview={"frames": "animated"}, flow=True, frames=3, batch=2)
    frames, _ = frames_of((folder / "step_0001.webp").read_bytes())
    assert frames.shape == (3, 16, 24 * 2 + 1, 3)
    shown, pictures = live(server, played)
    assert [frames_of(pictures[name])[0].shape for name in shown["steps"][0]["files"]] == [(3, 16, 24, 3)] * 2


def test_one_frame_of_a_video_model_is_written_as_an_image(kept):
    _, folder = kept("Wan21", preview={"frames": "animated"}, flow=True, frames=1)
    assert manifest_of(folder)["steps"][0]["files"] == ["step_0001.png"]


# Videos with audio


@pytest.mark.parametrize("latent_format", ["LTXAV", "MiniMaxH3AV"])
@pytest.mark.parametrize(
    ("preview", "files", "shape"),
    [
        ({}, ["step_0001.png"], (1, 16, 24 * 2 + 1, 3)),
        ({"frames": "animated"}, ["step_0001.webp"], (5, 16, 24 * 2 + 1, 3)),
        ({"frames": "animated", "batch": "all files"}, [f"step_0001_item_0{n}.webp" for n in (1, 2)], (5, 16, 24, 3)),
        ({"frames": "middle", "batch": "first"}, ["step_0001.png"], (1, 16, 24, 3)),
    ],
)
def test_the_video_of_a_video_with_audio_is_shown(kept, server, latent_format, preview, files, shape):
    targets = {"flow": True, "frames": 5, "batch": 2, "sound": 9}
    played, folder = kept(latent_format, preview=preview, **targets)
    manifest = manifest_of(folder)
    assert manifest["steps"][0]["files"] == files
    assert manifest["notes"] == []
    for name in files:
        assert frames_of((folder / name).read_bytes())[0].shape == shape
    assert live(server, played)[0]["picture"]["items"] == (1 if preview.get("batch") == "first" else 2)


@pytest.mark.parametrize("latent_format", ["StableAudio1", "ACEAudio"])
def test_audio_is_shown_over_time_for_each_choice_of_frames(kept, latent_format):
    _, folder = kept(latent_format, preview={"frames": "animated", "batch": "all files"}, flow=True, batch=2)
    assert manifest_of(folder)["steps"][0]["files"] == ["step_0001_item_01.png", "step_0001_item_02.png"]
