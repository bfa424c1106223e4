"""The copy of a run as a sink of its pipeline, in fsspec's memory."""

import json
import threading
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.remote.remote_copy import (
    RemoteCopy,
    copy_address,
    copy_of_saved_run,
    copy_saved_folder,
    name_files,
)
from safelight.preview.remote.scratch import remove_when_unused, scratch_folder, scratch_run
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import EmptyFolderRemoval, RunFolder
from safelight.preview.sinks.step_files import ENCODERS, StepFiles


class ElsewhereFiles(MemoryFileSystem):
    """A store that is not on this machine, as far as its address says."""

    protocol = "elsewhere"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("elsewhere://", "memory://"))


@pytest.fixture(autouse=True, scope="module")
def elsewhere():
    fsspec.register_implementation("elsewhere", ElsewhereFiles, clobber=True)


@pytest.fixture
def sample(picture):
    """A function that runs the sinks of a run of so many steps, as a pipeline does."""

    def sample(folder, copy, steps=2):
        files = StepFiles(folder, ImageEncoding(), encoders=ENCODERS)
        record = [copy, EmptyFolderRemoval(folder), folder]
        for sink in (*record, files):
            sink.open()
        for index in range(1, steps + 1):
            files.show(picture(index=index, total=steps))
        for sink in (files, *reversed(record)):
            sink.close("finished")
        copy.wait()

    return sample


def stored_record(memory, path):
    return json.loads(memory.cat_file(path))


def test_a_run_is_copied_with_its_final_record(memory, tmp_path, sample):
    folder = RunFolder(tmp_path / "steps_00001", Run(space="sd1"))
    sample(folder, RemoteCopy(folder, "memory://bucket/runs/one"))
    names = {path.removeprefix("/bucket/runs/one/") for path in memory.find("/bucket/runs/one")}
    assert names == {"run.json", "step_0001.png", "step_0002.png"}
    record = stored_record(memory, "/bucket/runs/one/run.json")
    assert (record["state"], [step["files"] for step in record["steps"]]) == (
        "finished",
        [["step_0001.png"], ["step_0002.png"]],
    )
    for name in names:
        assert memory.cat_file(f"/bucket/runs/one/{name}") == (folder.path / name).read_bytes()


def test_without_an_address_nothing_is_copied(memory, tmp_path, sample):
    folder = RunFolder(tmp_path / "run", Run(space="sd1"))
    sample(folder, RemoteCopy(folder, lambda: ""))
    assert memory.store == {}
    assert folder.run.notes == []


class TestSavedRunsOfAHost:
    """A host saves runs in its output folder, and a setting names the store of the copies."""

    @pytest.fixture
    def saved(self, tmp_path):
        return RunFolder(tmp_path / "output/safelight/steps_00001", Run(space="sd1"))

    def copy(self, saved, output, typed, folder=None):
        return copy_of_saved_run(folder or saved, saved, output, lambda: typed, "Safelight.Remote")

    def test_the_copy_has_the_path_in_the_output_folder_and_the_id(self, saved, tmp_path, sample):
        away_files = fsspec.filesystem("elsewhere")
        sample(saved, self.copy(saved, tmp_path / "output", " elsewhere://bucket/runs/ "))
        root = f"/bucket/runs/safelight/steps_00001_{saved.run.id[:8]}"
        assert away_files.exists(f"{root}/run.json")
        assert away_files.cat_file(f"{root}/step_0002.png") == (saved.path / "step_0002.png").read_bytes()

    def test_a_further_run_of_the_prompt_is_in_the_copy_of_the_first(self, saved, tmp_path, sample):
        inner = RunFolder(saved.path / "run_002", Run(space="sd1"))
        copy = self.copy(saved, tmp_path / "output", "elsewhere://bucket", folder=inner)
        sample(inner, copy)
        assert copy.address == f"elsewhere://bucket/safelight/steps_00001_{saved.run.id[:8]}/run_002"

    @pytest.mark.parametrize("typed", ["", "  "])
    def test_without_an_address_nothing_is_copied(self, saved, tmp_path, sample, typed):
        sample(saved, self.copy(saved, tmp_path / "output", typed))
        assert saved.run.notes == []

    @pytest.mark.parametrize("typed", ["file:///etc", "memory://x", "local:///etc", "FILE:///etc", "dir:///etc"])
    def test_an_address_of_this_machine_is_refused(self, saved, tmp_path, sample, typed):
        """Everyone who can use the host can change its settings, and must not choose where files are written."""
        sample(saved, self.copy(saved, tmp_path / "output", typed))
        (note,) = saved.run.notes
        assert note.startswith("the run is not copied: Safelight.Remote: expected the address of a store such as s3://")
        assert (saved.path / "step_0002.png").exists()

    def test_a_password_in_an_address_is_refused_and_not_repeated(self, saved, tmp_path, sample):
        sample(saved, self.copy(saved, tmp_path / "output", "sftp://me:hunter2@host/runs"))
        (note,) = saved.run.notes
        assert note == (
            "the run is not copied: Safelight.Remote: expected a sftp:// address without a password, a ? and a #; "
            "set the credentials where fsspec reads them, such as in environment variables"
        )
        assert "hunter2" not in (saved.path / "run.json").read_text()


def test_a_store_that_cannot_be_used_costs_named_files_and_not_the_run(tmp_path, sample):
    folder = RunFolder(tmp_path / "steps_00001", Run(space="sd1"))
    sample(folder, RemoteCopy(folder, "nowhere://bucket"))
    (note,) = folder.run.notes
    assert note.startswith("not copied: files of steps 1-2, run.json; steps_00001 has them: nowhere:// is no address")
    saved = json.loads((folder.path / "run.json").read_text())
    assert (saved["state"], saved["notes"]) == ("finished", [note])


def test_a_run_without_steps_leaves_nothing_in_the_store(memory, tmp_path, sample):
    folder = RunFolder(tmp_path / "run", Run(space="sd1"))
    sample(folder, RemoteCopy(folder, "memory://bucket/runs/one"), steps=0)
    assert not folder.path.exists()
    assert memory.store == {}


def test_what_is_written_after_the_run_is_copied_too(memory, tmp_path, sample):
    """The page of a prompt's first run is written again by the later runs, and the record when the image is judged."""
    folder = RunFolder(tmp_path / "run", Run(space="sd1"))
    copy = RemoteCopy(folder, "memory://bucket/one")
    sample(folder, copy)
    folder.write("index.html", b"all runs")
    folder.run.note("judged later")
    folder.save()
    copy.wait()
    assert memory.cat_file("/bucket/one/index.html") == b"all runs"
    assert stored_record(memory, "/bucket/one/run.json")["notes"] == ["judged later"]


class TestRunsThatAUserSaves:
    """A live run that was copied into the output folder, and is complete."""

    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "output/safelight/saved_00001"
        (folder / "step_0001").mkdir(parents=True)
        for name in ("run.json", "marks.json", "step_0001.png", "step_0001/frame_0001.png"):
            (folder / name).write_bytes(name.encode())
        (folder / "link.png").symlink_to(tmp_path / "elsewhere")
        return folder

    def save(self, folder, typed):
        before = set(threading.enumerate())
        copy_saved_folder(folder, "12345678-x", folder.parents[1], lambda: typed, "Safelight.Remote")
        for thread in set(threading.enumerate()) - before:
            thread.join(60)

    def test_all_files_are_copied(self, folder):
        self.save(folder, "elsewhere://bucket/saved")
        files = fsspec.filesystem("elsewhere")
        root = "/bucket/saved/safelight/saved_00001_12345678"
        stored = {path.removeprefix(f"{root}/"): files.cat_file(path) for path in files.find(root)}
        names = ("run.json", "marks.json", "step_0001.png", "step_0001/frame_0001.png")
        assert stored == {name: name.encode() for name in names}

    def test_files_that_are_not_copied_are_in_the_log(self, folder, caplog):
        self.save(folder, "nowhere://bucket")
        assert "not copied: files of step 1, marks.json, run.json; saved_00001 has them: nowhere://" in caplog.text

    def test_a_wrong_address_is_in_the_log(self, folder, caplog):
        self.save(folder, "file:///etc")
        assert "saved_00001 is not copied: Safelight.Remote: expected the address of a store" in caplog.text

    def test_without_an_address_nothing_happens(self, folder, caplog):
        self.save(folder, "")
        assert caplog.text == ""


def test_files_are_named_by_their_steps():
    names = ["run.json", *(f"step_{index:04d}.png" for index in (3, 4, 5, 9)), "step_0005.safetensors"]
    assert name_files([*names, "step_0012/frame_0001.png"]) == "files of steps 3-5, 9, 12, run.json"
    assert name_files(["sheet.png"]) == "sheet.png"


def test_two_runs_with_the_same_name_have_two_addresses():
    one, other = (copy_address("s3://bucket/runs/", "safelight/steps_00001", Run().id) for _ in range(2))
    assert one != other
    assert one.startswith("s3://bucket/runs/safelight/steps_00001_")
    assert copy_address("", "steps_00001", Run().id) == ""


class TestScratchFolders:
    def test_one_that_is_not_used_any_more_is_removed(self, memory, sample):
        root = scratch_folder()
        folder = scratch_run(root / "runs/steps_00001", Run(space="sd1"))
        copy = RemoteCopy(folder, "memory://bucket/one")
        sample(folder, copy)
        remove_now(folder, copy)
        assert not root.exists()
        assert root.parent.exists()
        assert memory.exists("/bucket/one/step_0002.png")

    def test_one_with_files_that_are_nowhere_else_stays(self, sample):
        root = scratch_folder()
        folder = scratch_run(root / "steps_00001", Run(space="sd1"))
        copy = RemoteCopy(folder, "nowhere://bucket")
        sample(folder, copy)
        remove_now(folder, copy)
        assert (folder.path / "step_0002.png").exists()
        assert str(folder.path) in folder.run.notes[0]

    def test_the_folder_of_a_further_run_stays(self, memory, sample):
        root = scratch_folder()
        folder = scratch_run(root / "steps_00001", Run(space="sd1"))
        copy = RemoteCopy(folder, "memory://bucket/one")
        sample(folder, copy)
        (folder.path / "run_002").mkdir()
        (folder.path / "step_0001").mkdir()
        remove_now(folder, copy)
        assert [path.name for path in folder.path.iterdir()] == ["run_002"]

    def test_only_this_user_can_read_it(self):
        root = scratch_folder()
        assert root.stat().st_mode & 0o077 == 0
        root.rmdir()


def remove_now(folder, copy):
    """What the garbage collector does, without waiting for it."""
    remove_when_unused(folder, copy)()
