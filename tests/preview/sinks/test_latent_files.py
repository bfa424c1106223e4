"""Latent files store each step's latents bit for bit, if all of them fit on the disk."""

import json

import pytest
import torch
from safelight.errors import GoneError, LatentsError
from safelight.preview.options import RunOptions
from safelight.preview.run import Run
from safelight.preview.sinks.latent_files import LatentFiles, Need, Room, read_latents
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.step import Step, StepInfo
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SIGMAS = torch.tensor([3.0, 1.0, 0.3, 0.0])
PLENTY = Room(1 << 40, "the disk")


def latent_files(tmp_path, *, need=Need(3, 1000), room=PLENTY):  # noqa: B008, both are frozen
    run = Run(space="sd1")
    folder = RunFolder(tmp_path / "run", run)
    return folder, LatentFiles(folder, need, lambda: room, sigmas=SIGMAS, facts={"format_name": "SD15"})


def values_of(index, dtype=torch.float32):
    generator = torch.Generator().manual_seed(index)
    return {name: torch.randn(1, 4, 2, 3, generator=generator).to(dtype) for name in ("noisy", "denoised")}


def manifest(folder):
    return json.loads((folder.path / "run.json").read_text("utf-8"))


@pytest.mark.parametrize(("dtype", "number_bytes"), [(torch.float16, 4), (torch.float32, 4), (torch.float64, 8)])
def test_the_need_of_a_run_is_two_tensors_for_each_step_that_is_saved(dtype, number_bytes):
    need = Need.of(torch.zeros(2, 4, 6, 8, dtype=dtype), RunOptions(every_n_steps=3).cadence(), 8)
    assert need == (4, 2 * 2 * 4 * 6 * 8 * number_bytes)  # steps 1, 4, 7 and the last one
    assert need.total_bytes == 4 * need.bytes_each


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_latents_of_each_step_are_saved_bit_for_bit_in_their_dtype(tmp_path, pipeline, dtype):
    folder, files = latent_files(tmp_path)
    with pipeline(folder, files, run=folder.run) as worker:
        for index in (1, 2, 3):
            worker.offer(Step(index=index, total=3, sigma=float(SIGMAS[index - 1]), **values_of(index, dtype)))
    entries = manifest(folder)["steps"]
    assert [entry["latent"] for entry in entries] == [f"step_000{i}.safetensors" for i in (1, 2, 3)]
    for index in (1, 2, 3):
        found = load_file(folder.path / f"step_000{index}.safetensors")
        expected = values_of(index, dtype) | {"sigmas": SIGMAS}
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert all(found[name].dtype == value.dtype for name, value in expected.items())


def test_later_changes_of_the_sampler_s_sigmas_are_not_saved(tmp_path, pipeline):
    run = Run(space="sd1")
    folder, sigmas = RunFolder(tmp_path / "run", run), SIGMAS.clone()
    files = LatentFiles(folder, Need(1, 1000), lambda: PLENTY, sigmas=sigmas)
    sigmas.zero_()
    with pipeline(folder, files, run=run) as worker:
        worker.offer(Step(index=1, total=1, **values_of(1)))
    assert torch.equal(load_file(folder.path / "step_0001.safetensors")["sigmas"], SIGMAS)


def test_later_changes_of_the_sampler_s_tensors_are_not_saved(tmp_path, pipeline, first_channels):
    folder, files = latent_files(tmp_path)
    net = first_channels()
    net.gate.shut()
    with pipeline(folder, files, net=net, run=folder.run) as worker:
        values = values_of(1)
        worker.offer(Step(index=1, total=2, **values))
        for tensor in values.values():
            tensor.zero_()
        net.gate.open()
    found = load_file(folder.path / "step_0001.safetensors")
    assert torch.equal(found["noisy"], values_of(1)["noisy"])


def test_latents_are_saved_if_no_decoder_can_show_them(tmp_path, pipeline, first_channels):
    folder, files = latent_files(tmp_path)
    with pipeline(folder, files, net=first_channels("always"), run=folder.run) as worker:
        worker.offer(Step(index=1, total=1, **values_of(1)))
    [entry] = manifest(folder)["steps"]
    assert entry["latent"] == "step_0001.safetensors"
    assert entry["files"] == []
    assert (folder.path / entry["latent"]).is_file()


def test_all_latents_of_a_batch_are_saved(tmp_path, pipeline):
    folder, files = latent_files(tmp_path)
    batch = torch.randn(3, 4, 2, 3)
    with pipeline(folder, files, run=folder.run) as worker:
        worker.offer(Step(index=1, total=1, denoised=batch, noisy=batch + 1))
    assert torch.equal(load_file(folder.path / "step_0001.safetensors")["noisy"], batch + 1)


def test_latents_that_do_not_fit_on_the_disk_are_refused_with_the_sizes(tmp_path, pipeline, recorder):
    need = Need(81, 400_000_000)
    folder, files = latent_files(tmp_path, need=need, room=Room(2_000_000_000, "the disk"))
    sink = recorder()
    with pipeline(folder, sink, files, run=folder.run) as worker:
        for index in (1, 2, 3):
            worker.offer(Step(index=index, total=3, **values_of(index)))
    assert sink.steps == [1, 2, 3]
    assert {path.name for path in folder.path.iterdir()} == {"run.json"}
    [note] = manifest(folder)["notes"]
    assert "81 steps of 381.5 MB need 30,899.0 MB, the disk has room for 1,907.3 MB" in note


def test_after_a_refusal_no_latents_are_copied(tmp_path, pipeline, monkeypatch):
    folder, files = latent_files(tmp_path, room=Room(0, "the disk"))
    with pipeline(folder, files, run=folder.run) as worker:
        files.refused = True
        monkeypatch.setattr(worker._all_latents, "take", lambda _: pytest.fail("a copy was taken"))
        worker.offer(Step(index=1, total=1, **values_of(1)))
    assert not [note for note in folder.run.notes if "not shown" in note]


def test_latents_that_could_not_be_written_are_noted_and_the_others_are_saved(tmp_path, pipeline, monkeypatch):
    folder, files = latent_files(tmp_path)
    write = folder.write

    def full_at_2(name, content):
        if name == "step_0002.safetensors":
            raise OSError(28, "No space left on device")
        write(name, content)

    monkeypatch.setattr(folder, "write", full_at_2)
    with pipeline(folder, files, run=folder.run) as worker:
        for index in (1, 2, 3):
            worker.offer(Step(index=index, total=3, **values_of(index)))
    assert [entry["latent"] for entry in manifest(folder)["steps"]] == [
        "step_0001.safetensors",
        "step_0003.safetensors",
    ]
    [note] = [note for note in manifest(folder)["notes"] if "latents" in note]
    assert note.startswith("latents: nothing was saved of step 2: OSError")


# Reading


@pytest.fixture
def written(tmp_path):
    folder, files = latent_files(tmp_path)
    folder.open()
    files.open()
    files.write(StepInfo(index=7, total=9, sigma=0.5, at_s=0.1), values_of(7))
    return folder, folder.path / "step_0007.safetensors"


def read(written, **other):
    folder, path = written
    return read_latents(path, **({"run": folder.run.id, "index": 7, "space": "sd1"} | other))


def rewrite(path, tensors=None, **facts):
    with safe_open(path, framework="pt") as file:
        saved_facts = file.metadata()
    save_file(load_file(path) if tensors is None else tensors, path, saved_facts | facts)


def test_saved_latents_are_read_back(written):
    found = read(written)
    assert torch.equal(found.noisy, values_of(7)["noisy"])
    assert torch.equal(found.denoised, values_of(7)["denoised"])
    assert torch.equal(found.sigmas, SIGMAS)
    assert found.facts["format_name"] == "SD15"


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"index": 6}, "expected latents of step '6', found '7'"),
        ({"run": "another"}, "expected latents of run 'another'"),
        ({"space": "flux1"}, "expected latents of space 'flux1', found 'sd1'"),
    ],
)
def test_latents_of_another_step_run_or_space_are_refused(written, other, expected):
    with pytest.raises(LatentsError, match=expected):
        read(written, **other)


def test_a_missing_file_is_reported(written):
    written[1].unlink()
    with pytest.raises(GoneError, match=r"step_0007.safetensors: no such file; it was moved or deleted"):
        read(written)


def test_a_newer_format_is_refused(written):
    rewrite(written[1], format="safelight.latents/2")
    with pytest.raises(LatentsError, match=r"expected latents of format 'safelight\.latents/1'"):
        read(written)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"else": torch.zeros(1)}, "expected tensors noisy or denoised, found 'else'"),
        ({"noisy": torch.zeros(1, dtype=torch.int64)}, "expected floating point numbers"),
    ],
)
def test_a_file_with_other_tensors_is_refused(written, tensors, expected):
    rewrite(written[1], tensors)
    with pytest.raises(LatentsError, match=expected):
        read(written)


def test_a_truncated_file_is_refused(written):
    path = written[1]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LatentsError, match="not a whole safetensors file"):
        read(written)
