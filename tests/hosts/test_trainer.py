"""Records of trainings: a run for each prompt and seed, continued by later processes, written by one of several."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safelight
import torch
from PIL import Image, ImageSequence
from safelight.errors import OptionError, SinkError, UnknownDecoderError, UnknownSpaceError
from safelight.hosts import main_process
from safelight.hosts.trainer import TrainingRecord
from safelight.preview.manifest import read_manifest
from safelight.preview.run_library import RunLibrary

SCRIPT = Path(safelight.__file__).parent / "example_scripts" / "watch_a_training.py"


def latents_of(seed, *shape):
    return torch.randn(shape or (1, 16, 6, 8), generator=torch.Generator().manual_seed(seed))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def steps_of(folder):
    return [step["index"] for step in read_manifest(folder)["steps"]]


@pytest.fixture
def record(tmp_path):
    return TrainingRecord(tmp_path / "training", "flux1", total_steps=2000)


# The record


def test_each_prompt_and_seed_is_a_run_whose_steps_are_those_of_the_training(record, tmp_path):
    folders = set()
    for step in (0, 500, 1000):
        for prompt, seed in (("A lighthouse, at dusk!", 0), ("A lighthouse, at dusk!", 1), ("a cat", None)):
            folders.add(record.sampled(step=step, prompt=prompt, seed=seed, latents=latents_of(step)))
    root = tmp_path / "training"
    expected = ["a-cat", "a-lighthouse-at-dusk_seed-0", "a-lighthouse-at-dusk_seed-1"]
    assert folders == {root / name for name in expected}
    assert names(root) == expected
    folder = root / expected[1]
    pictures = [f"step_{step:04d}.png" for step in (0, 500, 1000)]
    assert names(folder) == ["index.html", "run.json", "sheet.png", *pictures, "steps.webp"]
    manifest = read_manifest(folder)
    assert [(step["index"], step["files"]) for step in manifest["steps"]] == [
        (step, [name]) for step, name in zip((0, 500, 1000), pictures, strict=True)
    ]
    sampler = manifest["sampler"]
    assert (sampler["prompt"], sampler["seed"], sampler["steps"]) == ("A lighthouse, at dusk!", 0, 2000)
    assert (manifest["state"], manifest["host"]["name"], manifest["notes"]) == ("finished", "trainer", [])
    with Image.open(folder / "steps.webp") as animation:
        assert len(list(ImageSequence.Iterator(animation))) == 3
    assert '"sheet": "sheet.png"' in (folder / "run.json").read_text()


def test_a_library_lists_the_runs_with_their_prompts(record, tmp_path):
    record.sampled(step=100, prompt="a cat", seed=3, latents=latents_of(1))
    (entry,) = RunLibrary(tmp_path / "training").runs().values()
    assert entry.facts["index"] == 100
    assert entry.facts["total"] == 2000
    assert entry.details["prompt"] == "a cat"


def test_the_picture_is_that_of_the_decoder(record):
    from safelight import SPACES
    from safelight.decoders.catalogue import Catalogue

    folder = record.sampled(step=7, latents=latents_of(5))
    rgb = Catalogue().candidates(SPACES["flux1"])[0].open().decode(latents_of(5))[0]
    expected = (rgb.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    with Image.open(folder / "step_0007.png") as image:
        assert np.array_equal(np.asarray(image), expected)
    assert folder.name == "sample"


def test_a_later_process_continues_the_record_and_replaces_a_step_that_is_sampled_again(record, tmp_path):
    for step in (100, 200, 300):
        folder = record.sampled(step=step, prompt="a cat", seed=0, latents=latents_of(step), sampler={"cfg": 3.5})
    before, picture = read_manifest(folder), (folder / "step_0200.png").read_bytes()
    again = TrainingRecord(tmp_path / "training", "flux1", total_steps=4000)
    assert again.sampled(step=200, prompt="a cat", seed=0, latents=latents_of(9)) == folder
    assert again.sampled(step=400, prompt="a cat", seed=0, latents=latents_of(4)) == folder
    after = read_manifest(folder)
    assert steps_of(folder) == [100, 200, 300, 400]
    assert (folder / "step_0200.png").read_bytes() != picture
    assert (after["id"], after["started"]) == (before["id"], before["started"])
    assert (after["sampler"]["steps"], after["sampler"]["cfg"]) == (4000, 3.5)
    assert [step["at"] for step in after["steps"]][3] >= before["seconds"]
    with Image.open(folder / "steps.webp") as animation:
        assert len(list(ImageSequence.Iterator(animation))) == 4


def test_prompts_with_the_same_beginning_have_their_own_folders(record):
    long = "a very long prompt with many words that all folders begin with, and then "
    folders = [record.sampled(step=1, prompt=long + end, latents=latents_of(1)).name for end in ("a", "b", "a")]
    assert folders[0] == folders[2]
    assert folders[1] == f"{folders[0]}-2"
    assert record.sampled(step=1, prompt="../../etc", latents=latents_of(1)).name == "etc"
    assert record.sampled(step=1, prompt="CON", latents=latents_of(1)).name == "prompt-con"
    assert record.sampled(step=1, prompt="日本", latents=latents_of(1)).name == "日本"
    assert record.sampled(step=1, prompt="x", name="My Name", latents=latents_of(1)).name == "my-name"
    assert record.sampled(step=2, prompt="y", name="My Name", latents=latents_of(1)).name == "my-name"


def test_a_folder_with_something_else_stays_as_it_is(record, tmp_path):
    (tmp_path / "training" / "a-cat").mkdir(parents=True)
    (tmp_path / "training" / "a-cat" / "run.json").write_text("mine")
    (tmp_path / "training" / "a-cat-2").mkdir()
    (tmp_path / "training" / "a-cat-2" / "mine.txt").touch()
    for step in (1, 2):
        assert record.sampled(step=step, prompt="a cat", latents=latents_of(1)).name == "a-cat-3"
    assert names(tmp_path / "training" / "a-cat-2") == ["mine.txt"]
    assert (tmp_path / "training" / "a-cat" / "run.json").read_text() == "mine"


def test_tokens_arrays_and_batches_are_taken(tmp_path):
    record = TrainingRecord(tmp_path, "flux1", size=(64, 48), sheet=False, animation="off", file_format="webp")
    folder = record.sampled(step=1, latents=latents_of(1, 1, 12, 64))
    assert read_manifest(folder)["picture"]["shown_width"] == 64
    record.sampled(step=2, latents=latents_of(1, 1, 6, 8, 16).numpy(), channels_last=True)
    record.sampled(step=3, latents=latents_of(1, 2, 16, 6, 8).bfloat16().requires_grad_())
    assert steps_of(folder) == [1, 2, 3]
    assert "sheet.png" not in names(folder)
    assert "step_0003.webp" in names(folder)


def test_the_vae_says_the_latent_space(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    vae = diffusers.AutoencoderKL(latent_channels=4, scaling_factor=0.13025, block_out_channels=(4,), norm_num_groups=2)
    folder = TrainingRecord(tmp_path, vae=vae).sampled(step=1, latents=latents_of(1, 1, 4, 6, 8))
    assert read_manifest(folder)["space"] == "sdxl"
    with pytest.raises(OptionError, match=r"vae: the latent space of AutoencoderKL is unknown: .*pass space="):
        TrainingRecord(
            tmp_path, vae=diffusers.AutoencoderKL(latent_channels=7, block_out_channels=(4,), norm_num_groups=2)
        )


def test_the_random_numbers_of_the_training_and_its_latents_do_not_change(record):
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    latents = latents_of(1)
    record.sampled(step=1, latents=latents)
    assert torch.equal(torch.randn(4), expected)
    assert torch.equal(latents, latents_of(1))


def test_a_compiled_validation_records(record):
    @torch.compile(backend="eager")
    def validate(x):
        x = x * 2
        record.sampled(step=1, prompt="compiled", latents=x)
        return x + 1

    with torch.inference_mode():
        assert torch.equal(validate(latents_of(1)), latents_of(1) * 2 + 1)
    assert steps_of(record._out / "compiled") == [1]


# What is wrong never ends the training


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        ({"latents": latents_of(1, 1, 4, 6, 8)}, r"latents of FLUX.1 \(flux1\) with 16 channels, got \[1, 4, 6, 8\]"),
        ({"latents": None}, "expected latents as an array of NumPy, of torch, or with DLPack, got NoneType"),
        ({"latents": latents_of(1).int()}, "expected latents of floating point numbers, got torch.Tensor of int32"),
        ({"step": -1}, "expected a whole number of steps"),
        ({"step": 0.5}, "expected a whole number of steps"),
    ],
)
def test_wrong_input_is_a_warning(record, caplog, arguments, warning):
    assert record.sampled(**{"step": 5, "latents": latents_of(1), **arguments}) is None
    (message,) = caplog.messages
    assert message.startswith(f"the validation at step {arguments.get('step', 5)} is not recorded: ")
    with pytest.raises(AssertionError, match=warning):
        raise AssertionError(message)
    assert record.sampled(step=6, latents=latents_of(1)) is not None


def test_not_a_number_has_a_note(record):
    folder = record.sampled(step=1, latents=latents_of(1) * float("nan"))
    assert "NaN or infinite" in read_manifest(folder)["notes"][0]


def test_an_interruption_passes(record, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("safelight.hosts.trainer.is_main_process", interrupt)
    with pytest.raises(KeyboardInterrupt):
        record.sampled(step=1, latents=latents_of(1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, OptionError, r'space: expected a latent space such as space="flux1", or the VAE as vae=, got neither'),
        ({"space": "flux7"}, UnknownSpaceError, "flux7"),
        ({"space": "flux1", "decoder": "sd1-linear-keturn"}, UnknownDecoderError, "sd1-linear-keturn"),
        ({"space": "flux1", "decoder": "full"}, OptionError, "decoder: expected auto or a decoder, got full"),
        ({"space": "flux1", "sheets": True}, TypeError, "no option 'sheets'; did you mean sheet"),
        ({"space": "flux1", "every_n_steps": 2}, TypeError, "no option 'every_n_steps'"),
        ({"space": "flux1", "total_steps": -1}, OptionError, "whole number of steps"),
    ],
)
def test_wrong_settings_are_errors_before_the_training(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        TrainingRecord(tmp_path, **options)


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="out: expected a folder"):
        TrainingRecord(tmp_path / "file", "flux1")


# Several processes

WORKER = """
import sys, torch
import torch.distributed as dist
from safelight.hosts.trainer import TrainingRecord
rank, rendezvous, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
record = TrainingRecord(out, "flux1")
folder = record.sampled(step=1, prompt=f"rank {rank}", latents=torch.zeros(1, 16, 4, 4))
dist.barrier()
print("nothing" if folder is None else folder.name)
dist.destroy_process_group()
"""


def test_of_two_processes_only_the_first_writes(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    arguments = [
        [sys.executable, "-c", WORKER, str(rank), str(tmp_path / "meet"), str(tmp_path / "out")] for rank in (0, 1)
    ]
    workers = [subprocess.Popen(each, env=environment, stdout=subprocess.PIPE, text=True) for each in arguments]
    outputs = [worker.communicate(timeout=100)[0].strip() for worker in workers]
    assert outputs == ["rank-0", "nothing"]
    assert names(tmp_path / "out") == ["rank-0"]


def test_the_rank_in_the_environment_counts_before_the_processes_meet(record, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not main_process.is_main_process()
    assert record.sampled(step=1, latents=latents_of(1)) is None
    monkeypatch.setenv("RANK", "0")
    assert main_process.is_main_process()


def test_the_example_trains_and_records(tmp_path, monkeypatch, capsys, caplog):
    import runpy

    caplog.set_level(logging.WARNING)
    monkeypatch.setitem(sys.modules, "accelerate", None)  # as without it
    out = tmp_path / "training"
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--out", str(out), "--steps", "4", "--every", "2"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out.count("a-picture_seed-") == 4
    assert names(out) == ["a-picture_seed-0", "a-picture_seed-1"]
    assert steps_of(out / "a-picture_seed-0") == [2, 4]
    assert json.loads((out / "a-picture_seed-1" / "run.json").read_text())["sampler"]["seed"] == 1
    assert caplog.messages == []
