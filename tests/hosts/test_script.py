"""Runs without a host: when the block ends, also by an exception, all files are in the folder."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.shipped import open_shipped
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import OptionError, SinkError, UnknownDecoderError
from safelight.hosts.script import recording
from safelight.preview.manifest import read_manifest
from safelight.preview.options import RunOptions
from safelight.preview.output_folder import numbered_folder
from safelight.preview.sinks.base import Sink
from safelight.preview.sinks.in_memory import InMemory
from safelight.preview.step import Step
from safetensors.torch import save_file

SPACE = SPACES["sd1"]


def latents_of(index, space=SPACE):
    return torch.randn(2, space.channels, 6, 8, generator=torch.Generator().manual_seed(index))


def step_of(index, total, **fields):
    return Step(**({"index": index, "total": total, "sigma": 1.0 / index, "denoised": latents_of(index)} | fields))


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_after_the_block_all_files_are_written(tmp_path):
    path = tmp_path / "new" / "folder"
    with recording(path, SPACE, sampler={"steps": 5, "seed": 7}) as (pipeline, folder):
        for index in range(1, 6):
            assert pipeline.offer(step_of(index, 5))
    steps = [f"step_{index:04d}.png" for index in range(1, 6)]
    assert names(path) == {"run.json", "index.html", "sheet.png", "steps.webp", *steps}
    manifest = read_manifest(path)
    assert manifest == json.loads(json.dumps(folder.manifest()))
    assert manifest["state"] == "finished"
    assert manifest["host"]["name"] == "headless"
    assert (manifest["space"], manifest["sampler"]["steps"], manifest["sampler"]["seed"]) == ("sd1", 5, 7)
    assert [step["files"] for step in manifest["steps"]] == [[name] for name in steps]
    assert [step["sigma"] for step in manifest["steps"]] == [1.0 / index for index in range(1, 6)]
    assert (manifest["sheet"], manifest["animation"], manifest["notes"]) == ("sheet.png", "steps.webp", [])
    scale = manifest["decoder"]["scale"]
    assert manifest["picture"] == {
        "width": 8 * scale,
        "height": 6 * scale,
        "shown_width": 64,
        "shown_height": 48,
        "items": 1,
        "frames": 1,
        "fps": None,
    }
    with Image.open(path / "steps.webp") as image:
        assert len(list(ImageSequence.Iterator(image))) == 5


def test_the_pictures_are_exactly_those_of_the_decoder(tmp_path):
    decoder = Catalogue().candidates(SPACE)[0].open()
    with recording(tmp_path / "run", SPACE) as (pipeline, folder):
        for index in range(1, 4):
            pipeline.offer(step_of(index, 3))
    for index in range(1, 4):
        rgb = decoder.decode(latents_of(index)[:1])[0]
        expected = (rgb.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        with Image.open(folder.path / f"step_{index:04d}.png") as image:
            assert np.array_equal(np.asarray(image), expected)
    assert folder.manifest()["decoder"]["name"] == decoder.name


def test_packed_and_unpacked_flux2_latents_give_the_same_picture(tmp_path):
    unpacked = latents_of(1, SPACES["flux2"])
    packed = torch.nn.functional.pixel_unshuffle(unpacked, 2)
    for name, latents in (("packed", packed), ("unpacked", unpacked)):
        with recording(tmp_path / name, SPACES["flux2"]) as (pipeline, _):
            pipeline.offer(step_of(1, 1, denoised=latents))
    first, second = (tmp_path / name / "step_0001.png" for name in ("packed", "unpacked"))
    with Image.open(first) as packed_image, Image.open(second) as unpacked_image:
        assert np.array_equal(np.asarray(packed_image), np.asarray(unpacked_image))
    assert read_manifest(tmp_path / "packed")["picture"]["shown_width"] == 64


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed"), (SystemExit, "failed")]
)
def test_a_run_that_an_exception_ends_has_its_state_and_files(tmp_path, error, state):
    def sample(pipeline):
        pipeline.offer(step_of(1, 20))
        pipeline.offer(step_of(2, 20))
        raise error("enough")

    with pytest.raises(error, match="enough"), recording(tmp_path / "run", SPACE) as (pipeline, _):
        sample(pipeline)
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["state"], len(manifest["steps"])) == (state, 2)
    assert names(tmp_path / "run") == {
        "run.json",
        "index.html",
        "sheet.png",
        "steps.webp",
        "step_0001.png",
        "step_0002.png",
    }


def test_a_run_without_a_step_has_a_manifest_and_a_page(tmp_path):
    with recording(tmp_path / "run", SPACE):
        pass
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["state"], manifest["steps"], manifest["decoder"]) == ("finished", [], None)
    assert names(tmp_path / "run") == {"run.json", "index.html"}


def test_a_folder_that_is_not_empty_is_refused_and_unchanged(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SinkError, match="expected an empty folder for the run, found files in it; choose another"):
        recording(tmp_path, SPACE).__enter__()
    assert names(tmp_path) == {"mine.txt"}


def test_an_empty_folder_is_accepted(tmp_path):
    with recording(tmp_path, SPACE):
        pass
    assert names(tmp_path) == {"run.json", "index.html"}


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SinkError, match="expected a folder for the run: "):
            recording(path, SPACE).__enter__()


@pytest.mark.parametrize("decoder", ["no-such-decoder", "flux2-affine-comfyui"])
def test_a_wrong_decoder_is_an_error_before_sampling_and_writes_nothing(tmp_path, decoder):
    with pytest.raises(UnknownDecoderError, match=decoder):
        recording(tmp_path / "run", SPACE, decoder=decoder).__enter__()
    assert names(tmp_path) == set()


def test_the_requested_decoder_is_used(tmp_path):
    with recording(tmp_path / "run", SPACE, decoder="principal") as (pipeline, folder):
        pipeline.offer(step_of(1, 1))
    assert folder.manifest()["decoder"]["name"] == "principal"


def test_every_nth_step_and_the_last_are_recorded_in_the_requested_format(tmp_path):
    options = RunOptions(write_intermediates=True, batch="first", file_format="webp", enlarge="lanczos")
    with recording(tmp_path / "run", SPACE, every_n_steps=4, options=options) as (pipeline, folder):
        for index in range(1, 11):
            pipeline.offer(step_of(index, 10))
    assert [step["index"] for step in folder.manifest()["steps"]] == [1, 5, 9, 10]
    with Image.open(tmp_path / "run" / "step_0010.webp") as image:
        assert (image.format, image.size) == ("WEBP", (64, 48))


def test_the_requested_latents_are_shown(tmp_path):
    with recording(tmp_path / "run", SPACE, show="noisy") as (pipeline, folder):
        pipeline.offer(step_of(1, 2, noisy=latents_of(9), noisy_gain=0.5))
        pipeline.offer(step_of(2, 2))
    assert [step["show"] for step in folder.manifest()["steps"]] == ["noisy", "denoised"]


def test_the_user_s_sinks_receive_every_picture(tmp_path):
    memory = InMemory()
    with recording(tmp_path / "run", SPACE, sinks=[memory]) as (pipeline, _):
        for index in range(1, 4):
            pipeline.offer(step_of(index, 3))
    assert [picture.index for picture in memory.pictures] == [1, 2, 3]
    assert memory.state == "finished"


def test_a_user_s_sink_that_fails_costs_notes_in_the_manifest(tmp_path):
    class Failing(Sink):
        name = "mine"

        def show(self, picture):
            raise ValueError("no")

        def close(self, state):
            raise ValueError("never")

    with recording(tmp_path / "run", SPACE, sinks=[Failing()]) as (pipeline, _):
        pipeline.offer(step_of(1, 2))
        pipeline.offer(step_of(2, 2))
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["state"], len(manifest["steps"])) == ("finished", 2)
    assert manifest["notes"] == [
        "mine: nothing was saved of steps 1-2: ValueError: no",
        "mine could not be finished: ValueError: never",
    ]


def test_the_latents_and_the_random_state_of_torch_do_not_change(tmp_path):
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    latents = latents_of(1)
    with recording(tmp_path / "run", SPACE) as (pipeline, _):
        pipeline.offer(step_of(1, 1, denoised=latents))
    assert torch.equal(torch.randn(4), expected)
    assert torch.equal(latents, latents_of(1))


def test_folders_are_numbered_from_one_and_existing_ones_are_skipped(tmp_path):
    assert numbered_folder(tmp_path / "nowhere", "demo").name == "demo_00001"
    for name in ("demo_00001", "demo_00003", "demo_x", "demo[1]_00001"):
        (tmp_path / name).mkdir()
    assert numbered_folder(tmp_path, "demo") == tmp_path / "demo_00002"
    assert numbered_folder(tmp_path, "demo[1]") == tmp_path / "demo[1]_00002"
    assert numbered_folder(tmp_path, "*") == tmp_path / "*_00001"


def test_a_chdir_in_the_block_does_not_move_the_files(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with recording(Path("runs/one"), SPACE) as (pipeline, _):
        monkeypatch.chdir("elsewhere")
        pipeline.offer(step_of(1, 1))
    assert "step_0001.png" in names(tmp_path / "runs" / "one")
    assert names(tmp_path / "elsewhere") == set()


def test_decoder_files_of_the_user_are_noted_and_tried_after_a_finished_run(tmp_path):
    decoders = tmp_path / "decoders"
    decoders.mkdir()
    (decoders / "broken.safetensors").write_bytes(b"nothing")
    net = open_shipped("sd1-linear-comfyui").net
    table = {
        "in_proj.weight": net.weight[:, :, 0, 0] * 1e-3,
        "in_proj.bias": torch.zeros(3),
        "out_proj.weight": torch.eye(3) * 4e3,
        "out_proj.bias": torch.full((3,), 0.0),
    }
    save_file(table, decoders / "unknown.safetensors")
    smooth = torch.nn.functional.interpolate(latents_of(3)[:, :, ::2, ::2], scale_factor=8.0, mode="bicubic")
    for i in range(4):
        catalogue = Catalogue([decoders])
        with recording(tmp_path / str(i), SPACE, catalogue=catalogue) as (pipeline, folder):
            pipeline.offer(step_of(1, 1, denoised=smooth.roll(i, 2)))
        for thread in threading.enumerate():
            if thread.name.startswith("safelight-"):
                thread.join(20)
        notes = read_manifest(tmp_path / str(i))["notes"]
        assert len(notes) == (i == 0)
        assert folder.manifest()["state"] == "finished"
    (tried,) = Catalogue([decoders]).trials().files.values()
    assert tried.name == "unknown.safetensors"
    assert tried.spaces["sd1"].pictures >= 1


def test_a_rule_to_stop_is_refused_as_the_loop_is_the_users(tmp_path):
    recorded = recording(tmp_path / "run", SPACE, options=RunOptions(stop_below_percent=0.5))
    with pytest.raises(OptionError, match="stop_below_percent: expected 0 for a loop of your own"):
        recorded.__enter__()
    assert not (tmp_path / "run").exists()
