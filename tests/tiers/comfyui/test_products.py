"""Outputs of a whole run on a real server, also of an interrupted one: contact sheet, animation, folder name."""

import io
import json
import os
import re
import subprocess
from datetime import datetime

import pytest
from PIL import Image, ImageSequence

from ... import older

STEPS = 6
SMALL = (10, 7)
# Prints size, frames per second, seconds and each frame, shrunk, of an MP4.
PLAYER = """
import av, json, sys
with av.open(sys.argv[1]) as movie:
    stream = movie.streams.video[0]
    frames = [frame.to_image() for frame in movie.decode(video=0)]
    seconds = float(stream.duration * stream.time_base)
    small = [frame.resize((10, 7), 4).tobytes().hex() for frame in frames]
    print(json.dumps([frames[0].size, float(stream.average_rate), seconds, small]))
"""


@pytest.fixture
def kept(request, server, wire):
    """Runs a job that writes its steps; returns the events and the folders of its runs."""
    name = re.sub(r"\W+", "_", request.node.name)

    def play(latent_format="ChromaRadiance", *, preview=None, on_event=None, seed=None, **settings):
        formats = server.inputs_of("LabModel")["latent_format"][0]
        older.expect(latent_format in formats, "ComfyUI", server.version, f"latent format {latent_format}")
        inputs = {"write_intermediates": True, "filename_prefix": f"products/{name}", **(preview or {})}
        size = {"flow": True, "width": 50, "height": 33} if latent_format == "ChromaRadiance" else {}
        graph = wire(latent_format, preview=inputs, **{"steps": STEPS, "seed": seed, **size, **settings})
        played = server.play(graph, on_event=on_event)
        play.graph = graph
        return played, sorted((server.output / "products").glob(f"{name}_[0-9]*"))

    return play


def manifest_of(folder):
    """The manifest of a run; its folder contains exactly the files that it lists."""
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    listed = {name for step in manifest["steps"] for name in step["files"]}
    products = {manifest[name] for name in ("sheet", "animation", "page")} - {None}
    assert {path.name for path in folder.iterdir()} == listed | products | {"run.json"}
    return manifest


def played(path, step_ms=125):
    """The frame of an animation at each step of this duration, and the total duration in milliseconds.

    Equal frames are stored once, with a longer duration.
    """
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        shown, now = [], 0
        for frame in ImageSequence.Iterator(image):
            frame.load()
            now += frame.info.get("duration", 0)
            while len(shown) * step_ms < now:
                shown.append(frame.convert("RGB"))
    return shown, now


def differ(one, other):
    """The mean difference of two pictures, shrunk first, because lossy files lose colored grain."""
    small = [image.convert("RGB").resize(SMALL, Image.Resampling.BOX).tobytes() for image in (one, other)]
    return sum(abs(a - b) for a, b in zip(*small, strict=True)) / len(small[0])


def test_sheet_and_animation_are_off_by_default(kept):
    _, [folder] = kept()
    manifest = manifest_of(folder)
    assert (manifest["sheet"], manifest["animation"]) == (None, None)


def test_a_sheet_shows_each_step(kept, server, wire):
    watched, [folder] = kept(preview={"sheet": True})
    assert manifest_of(folder)["sheet"] == "sheet.png"
    sheet = Image.open(io.BytesIO((folder / "sheet.png").read_bytes()))
    assert sheet.size == (3 * (256 + 8) + 8, 2 * (169 + 22 + 8) + 8)
    with Image.open(folder / f"step_000{STEPS}.png") as last:
        there = sheet.crop((8 + 2 * 264, 8 + 199, 8 + 2 * 264 + 256, 8 + 199 + 169))
        assert differ(there, last.resize((256, 169), Image.Resampling.BICUBIC)) < 1
    bare = server.play(wire.without_preview(kept.graph))
    assert watched.digest == bare.digest


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_an_animation_plays_each_step_and_holds_the_last(kept, ending):
    told = {"animation": ending, "animation_fps": 5.0, "animation_hold_s": 2.0}
    _, [folder] = kept(preview=told)
    assert manifest_of(folder)["animation"] == f"steps.{ending}"
    frames, lasting_ms = played(folder / f"steps.{ending}", step_ms=200)
    assert lasting_ms == 200 * (STEPS - 1) + 2000
    assert frames[0].size == (50, 33)
    for number, frame in enumerate(frames[:STEPS], 1):
        with Image.open(folder / f"step_000{number}.png") as step:
            assert differ(frame, step) < 6


def test_other_programs_can_play_an_mp4(kept):
    _, [folder] = kept(preview={"animation": "mp4", "animation_fps": 4.0, "animation_hold_s": 2.0})
    assert manifest_of(folder)["animation"] == "steps.mp4"
    command = [os.environ["SAFELIGHT_COMFYUI_PYTHON"], "-c", PLAYER, str(folder / "steps.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, fps, seconds, small = json.loads(done.stdout)
    assert (size, fps, len(small)) == ([50, 34], 4, STEPS - 1 + 8)
    assert seconds == pytest.approx((STEPS - 1) / 4 + 2)
    for number, frame in enumerate(small[:STEPS], 1):
        with Image.open(folder / f"step_000{number}.png") as step:
            assert differ(Image.frombytes("RGB", SMALL, bytes.fromhex(frame)), step) < 6


def test_an_animation_has_the_chosen_steps(kept):
    _, [folder] = kept(preview={"animation": "webp", "animation_from_step": 3, "animation_to_step": 5})
    frames, lasting_ms = played(folder / "steps.webp")
    assert lasting_ms == 2 * 125 + 1500
    with Image.open(folder / "step_0005.png") as fifth, Image.open(folder / "step_0001.png") as first:
        assert differ(frames[-1], fifth) < min(6, differ(frames[-1], first))


def test_an_animation_of_steps_that_do_not_exist_adds_a_note(kept):
    _, [folder] = kept(preview={"animation": "webp", "animation_from_step": 30})
    manifest = manifest_of(folder)
    assert manifest["animation"] is None
    assert manifest["notes"] == ["no animation: there is no picture of steps 30 on; the last step is 6"]


def test_an_animation_without_frames_is_refused_before_sampling(kept):
    preview = {"animation": "gif", "animation_from_step": 5, "animation_to_step": 2}
    result, folders = kept(preview=preview)
    assert result.ends == ["execution_error"]
    assert "from step 5 to step 2 has no frames" in result.named("execution_error")[0].data["exception_message"]
    assert folders == []


def test_no_file_is_listed_in_the_hosts_outputs(kept):
    result, _ = kept(preview={"sheet": True, "animation": "webp"})
    assert "sheet.png" not in json.dumps(result.histories)
    assert "steps.webp" not in json.dumps(result.histories)


def test_the_files_of_an_interrupted_run_are_finished(kept, server):
    def stop(event):
        if event.name == "safelight.step" and event.data["index"] == 3:
            server.post("/interrupt", {})

    preview = {"sheet": True, "animation": "gif", "keep_latents": False}
    result, [folder] = kept(preview=preview, on_event=stop, steps=40, step_ms=150.0)
    assert result.ends == ["execution_interrupted"]
    manifest = manifest_of(folder)
    assert manifest["state"] == "interrupted"
    assert (manifest["sheet"], manifest["animation"], manifest["page"]) == ("sheet.png", "steps.gif", "index.html")
    count = len(manifest["steps"])
    assert 3 <= count < 40
    assert played(folder / "steps.gif")[1] == pytest.approx((count - 1) * 125 + 1500, abs=10)
    assert manifest["id"] in (folder / "index.html").read_text(encoding="utf-8")
    assert manifest["notes"] == []


def test_the_files_of_a_failed_run_are_finished(kept):
    result, [folder] = kept(preview={"sheet": True, "animation": "mp4"}, fail_at=4)
    assert result.ends == ["execution_error"]
    manifest = manifest_of(folder)
    assert manifest["state"] == "failed"
    assert (manifest["sheet"], manifest["animation"]) == ("sheet.png", "steps.mp4")


def test_tokens_in_the_prefix_are_replaced_from_the_prompt(kept, server):
    prefix = "products/%date:yyyy%_%KSampler.seed%_%KSampler.sampler_name%_%width%x%height%"
    before = datetime.now().year
    kept(preview={"filename_prefix": prefix}, seed=31337)
    years = {before, datetime.now().year}
    assert any((server.output / f"products/{year}_31337_euler_50x33_00001/run.json").exists() for year in years)


def test_no_folder_is_named_after_a_token(kept, server):
    kept(preview={"filename_prefix": "products/%date:yyyy%/%KSampler.seed%/run"}, seed=777)
    assert list(server.output.glob("products/2*/777/run_00001/run.json"))
    assert not [path.name for path in server.output.rglob("*%*")]


def test_the_seed_in_a_name_is_the_runs_own_even_if_the_node_is_cached(kept, server):
    for seed in (501, 502):
        kept(preview={"filename_prefix": "products/seed_%KSampler.seed%"}, seed=seed)
    assert {path.name for path in (server.output / "products").glob("seed_*")} == {"seed_501_00001", "seed_502_00001"}
