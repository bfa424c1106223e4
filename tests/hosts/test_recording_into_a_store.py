"""`recording` and `watch` with an address in place of a folder."""

import gc
import json

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safelight import recording
from safelight.errors import OptionError, SinkError, StoreError
from safelight.hosts.diffusers.options import WatchOptions
from safelight.hosts.trainer import TrainingRecord

STEPS = [f"step_000{index}.png" for index in (1, 2, 3)]


def record(address, steps=3):
    latents = torch.linspace(-1, 1, 32 * 64).reshape(1, 32, 8, 8)
    with recording(address, "flux2", steps=steps) as run:
        for _ in range(steps):
            run.offer(latents, sigma=0.5)
    return run


def test_a_run_is_in_the_store_when_the_block_ends(memory):
    run = record("memory://bucket/runs/one")
    folder = run.folder.path
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "index.html", "sheet.png", "steps.webp", "step_0003.png"} <= names
    for name in names:
        assert memory.cat_file(f"/bucket/runs/one/{name}") == (folder / name).read_bytes()
    assert json.loads(memory.cat_file("/bucket/runs/one/run.json"))["state"] == "finished"
    assert run.missing == []


def test_the_temporary_folder_is_removed_with_the_run(memory):
    run = record("memory://bucket/runs/one")
    folder = run.folder.path
    del run
    gc.collect()
    assert not folder.parent.exists()


def test_a_place_with_files_is_refused(memory):
    record("memory://bucket/runs/one")
    with pytest.raises(SinkError, match="memory://bucket/runs/one: expected an empty place for the run"):
        record("memory://bucket/runs/one")


def test_an_address_with_a_password_is_refused_before_the_run():
    with pytest.raises(OptionError, match="folder: expected a sftp:// address without a password"):
        record("sftp://me:hunter2@host/runs")
    with pytest.raises(OptionError, match="out: expected a sftp:// address without a password"):
        WatchOptions.of("sftp://me:hunter2@host/runs")


def test_an_address_that_no_package_knows_is_refused_before_the_run():
    with pytest.raises(StoreError, match="nowhere:// is no address that fsspec knows"):
        record("nowhere://bucket/runs")
    with pytest.raises(StoreError, match="nowhere:// is no address that fsspec knows"):
        WatchOptions.of("nowhere://bucket/runs")


class ReadOnlyFiles(MemoryFileSystem):
    """A store that refuses every file, and names what it got."""

    protocol = "read-only"
    cachable = False

    def pipe_file(self, path, value, **kwargs):
        raise PermissionError("the key secret-of-the-environment may not write")


def test_a_store_that_refuses_the_files_does_not_end_the_run(monkeypatch, caplog):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
    fsspec.register_implementation("read-only", ReadOnlyFiles, clobber=True)
    run = record("read-only://bucket/runs/one")
    manifest = json.loads((run.folder.path / "run.json").read_text())
    assert manifest["state"] == "finished"
    (note,) = manifest["notes"]
    assert note == (
        "not copied: files of steps 1-3, index.html, run.json, sheet.png, steps.webp; "
        f"{run.folder.path} has them: read-only://bucket/runs/one: PermissionError: the key *** may not write"
    )
    assert note in caplog.text
    assert run.missing == ["index.html", "run.json", "sheet.png", *STEPS, "steps.webp"]
    assert "secret-of-the-environment" not in caplog.text
    for path in run.folder.path.iterdir():
        assert b"secret-of-the-environment" not in path.read_bytes()


def test_a_training_is_recorded_on_this_machine_only():
    with pytest.raises(OptionError, match="out: expected a folder of this machine"):
        TrainingRecord("s3://bucket/runs", "flux2")


def test_each_sampler_call_has_a_temporary_folder_of_its_own():
    options = WatchOptions.of("memory://bucket/runs/")
    assert options.address == "memory://bucket/runs"
    first, second = options.new_prefix(), options.new_prefix()
    assert first.name == second.name == "steps"
    assert first.parent != second.parent
    for prefix in (first, second):
        prefix.parent.rmdir()
