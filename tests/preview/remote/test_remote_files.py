"""A library whose runs are in a store."""

import gc
import json
import logging
from pathlib import Path

import pytest
from safelight.errors import LibraryError, StoreError
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.remote.remote_files import MIN_RENEW_S, RemoteFiles
from safelight.preview.remote.store import Store
from safelight.preview.run import Run
from safelight.preview.run_library import RunLibrary
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles


class Away:
    """A store that can be away. Counts what is read."""

    def __init__(self, store):
        self._store, self.address, self.is_away, self.read_names = store, store.address, False, []

    def __getattr__(self, name):
        def ask(*arguments):
            if self.is_away:
                raise StoreError("memory://bucket/runs: away")
            if name == "read":
                self.read_names.append(arguments[0])
            return getattr(self._store, name)(*arguments)

        return ask


@pytest.fixture
def put_run(memory, tmp_path, picture):
    """A function that puts a run of two steps into the store. Returns its id."""

    def put_run(name, state="finished", steps=2, texts=dict):
        folder = RunFolder(tmp_path / name, Run(space="sd1"))
        folder.open()
        files = StepFiles(folder, ImageEncoding(), texts=texts)
        files.open()
        for index in range(1, steps + 1):
            files.show(picture(index=index, total=steps))
        files.close(state)
        folder.abandon(state)
        folder.save()
        for path in folder.path.rglob("*"):
            if path.is_file():
                memory.pipe_file(f"/bucket/runs/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
        return folder.run.id

    return put_run


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def store(memory):
    return Away(Store.open("memory://bucket/runs"))


@pytest.fixture
def files(store):
    return RemoteFiles(store, clock=Clock())


@pytest.fixture
def library(files):
    return RunLibrary(files.folder, lambda texts, _: texts.get("prompt"), source=files)


def content_of(library, run_id, name):
    opened = library.open(run_id, name)
    if opened is None:
        return None
    with opened[0] as file:
        return file.read()


def test_runs_of_all_levels_are_listed_and_only_their_records_are_read(library, store, put_run):
    one, other = put_run("steps_00001"), put_run("safelight/deep/steps_00002")
    assert set(library.runs()) == {one, other}
    assert sorted(store.read_names) == ["safelight/deep/steps_00002/run.json", "steps_00001/run.json"]
    assert library.name == library.place == "memory://bucket/runs"


def test_a_picture_is_read_when_it_is_asked_for_and_once(library, store, memory, put_run):
    run_id = put_run("steps_00001")
    library.runs()
    store.read_names.clear()
    for _ in range(2):
        expected = memory.cat_file("/bucket/runs/steps_00001/step_0002.png")
        assert content_of(library, run_id, "step_0002.png") == expected
    assert store.read_names == ["steps_00001/step_0002.png"]


def test_only_files_that_a_record_lists_are_given_out(library, memory, put_run):
    run_id = put_run("steps_00001")
    memory.pipe_file("/bucket/runs/steps_00001/secret.png", b"secret")
    memory.pipe_file("/bucket/secret.png", b"secret")
    library.runs()
    for name in ("secret.png", "../secret.png", "run.json", "../../secret.png"):
        assert library.open(run_id, name) is None


def test_new_changed_and_deleted_runs_are_noticed(library, memory, put_run):
    one = put_run("steps_00001")
    assert list(library.runs()) == [one]
    other = put_run("steps_00002", state="running")
    assert library.runs()[other].facts["state"] == "running"
    record = json.loads(memory.cat_file("/bucket/runs/steps_00002/run.json")) | {"state": "interrupted"}
    memory.pipe_file("/bucket/runs/steps_00002/run.json", json.dumps(record).encode())
    assert library.runs()[other].facts["state"] == "interrupted"
    memory.rm("/bucket/runs/steps_00001", recursive=True)
    assert list(library.runs()) == [other]


def test_the_record_of_a_deleted_run_that_is_in_use_is_removed_later(library, memory, put_run, monkeypatch):
    one, other = put_run("steps_00001"), put_run("steps_00002")
    assert library.runs().keys() == {one, other}
    memory.rm("/bucket/runs/steps_00001", recursive=True)

    def unlink(path, missing_ok=False):
        raise PermissionError(13, "The process cannot access the file because it is being used", str(path))

    with monkeypatch.context() as on_windows:
        on_windows.setattr(Path, "unlink", unlink)
        assert library.runs().keys() == {one, other}
    assert list(library.runs()) == [other]


def test_the_record_of_a_running_run_is_read_again_when_it_is_asked_for(files, library, memory, put_run):
    run_id = put_run("steps_00001", state="running")
    library.runs()
    record = json.loads(memory.cat_file("/bucket/runs/steps_00001/run.json")) | {"state": "finished"}
    assert library.run(run_id).facts["state"] == "running"
    memory.pipe_file("/bucket/runs/steps_00001/run.json", json.dumps(record).encode())
    assert library.run(run_id).facts["state"] == "running"  # it was looked at in this moment
    files._clock.now_s += MIN_RENEW_S
    assert library.run(run_id).facts["state"] == "finished"


def test_a_record_that_could_not_be_read_is_read_later(library, store, put_run, monkeypatch):
    run_id = put_run("steps_00001")

    def fail(*_):
        raise StoreError("memory://bucket/runs: away for a moment")

    with monkeypatch.context() as for_a_moment:
        for_a_moment.setattr(store, "read", fail, raising=False)
        assert library.runs() == {}
    assert list(library.runs()) == [run_id]


def test_a_picture_of_a_run_that_has_changed_is_read_again(library, memory, put_run):
    run_id = put_run("steps_00001")
    library.runs()
    content_of(library, run_id, "step_0002.png")
    other = memory.cat_file("/bucket/runs/steps_00001/step_0001.png")
    memory.pipe_file("/bucket/runs/steps_00001/step_0002.png", other)
    record = json.loads(memory.cat_file("/bucket/runs/steps_00001/run.json")) | {"seconds": 99.0}
    memory.pipe_file("/bucket/runs/steps_00001/run.json", json.dumps(record).encode())
    library.runs()
    assert content_of(library, run_id, "step_0002.png") == other


def test_the_prompt_of_a_run_is_found_without_reading_the_whole_picture(library, store, put_run):
    run_id = put_run("steps_00001", texts=lambda: {"prompt": '"a lighthouse"'})
    assert library.runs()[run_id].details["prompt"] == '"a lighthouse"'
    assert library.runs()[run_id].details["workflow"]
    assert library.texts(run_id)["prompt"] == '"a lighthouse"'
    assert store.read_names == ["steps_00001/run.json"]


def test_a_star_and_a_note_are_in_the_store(library, memory, put_run):
    run_id = put_run("steps_00001")
    assert library.mark(run_id, star=True).marks.star
    library.mark(run_id, note="the good one")
    saved = json.loads(memory.cat_file("/bucket/runs/steps_00001/marks.json"))
    assert (saved["star"], saved["note"]) == (True, "the good one")
    again = RemoteFiles(Store.open("memory://bucket/runs"))
    marks = RunLibrary(again.folder, source=again).runs()[run_id].marks
    assert (marks.star, marks.note) == (True, "the good one")


def test_a_star_that_the_store_does_not_take_is_not_shown(library, store, put_run):
    run_id = put_run("steps_00001")
    library.runs()
    store.is_away = True
    with pytest.raises(LibraryError, match="the star and the note cannot be written into steps_00001"):
        library.mark(run_id, star=True)
    assert not library.runs()[run_id].marks.star


def test_a_run_in_a_store_is_not_deleted_from_here(library, memory, put_run):
    run_id = put_run("steps_00001")
    with pytest.raises(LibraryError, match="steps_00001 is in memory://bucket/runs; delete it with a program"):
        library.delete(run_id)
    assert memory.exists("/bucket/runs/steps_00001/run.json")
    assert list(library.runs()) == [run_id]


def test_a_store_that_is_away_leaves_the_runs_as_they_were(library, store, put_run, caplog):
    run_id = put_run("steps_00001")
    library.runs()
    store.is_away = True
    with caplog.at_level(logging.WARNING, "safelight.view"):
        assert list(library.runs()) == list(library.runs()) == [run_id]
        assert library.open(run_id, "step_0001.png") is None
    assert [record.getMessage() for record in caplog.records] == [
        "the runs are shown as they were: memory://bucket/runs: away"
    ]
    store.is_away = False
    assert content_of(library, run_id, "step_0001.png")


def test_a_store_that_is_away_from_the_begin_is_an_error(files, store):
    store.is_away = True
    with pytest.raises(StoreError, match="away"):
        files.connect()


def test_pictures_that_were_shown_longest_ago_make_room(store, put_run, memory):
    run_id = put_run("steps_00001", steps=4)
    size = memory.size("/bucket/runs/steps_00001/step_0001.png")
    files = RemoteFiles(store, max_bytes=2 * size + size // 2)
    library = RunLibrary(files.folder, source=files)
    library.runs()
    for index in (1, 2, 1, 3):
        assert content_of(library, run_id, f"step_{index:04d}.png")
    left = {path.name for path in files.folder.rglob("*.png")}
    assert left == {"step_0001.png", "step_0003.png"}


@pytest.mark.parametrize(
    "name",
    [
        "../run.json",
        "../outside/run.json",
        ".hidden/run.json",
        "a/../../run.json",
        "a/./run.json",
        "a//run.json",
        "/".join("abcdefgh") + "/run.json",
        "a\0b/run.json",
        "a\ud800b/run.json",
    ],
)
def test_a_hostile_name_in_a_store_is_left_out(name, store, files, tmp_path, monkeypatch, put_run):
    put_run("steps_00001")
    listed = store.list()
    file = listed["steps_00001/run.json"]
    monkeypatch.setattr(store, "list", lambda: {name: file}, raising=False)
    monkeypatch.setattr(store, "read", lambda *_: pytest.fail("read"), raising=False)
    files.connect()
    assert [path for path in files.folder.rglob("*") if path.is_file()] == []


def test_a_record_that_is_no_manifest_is_skipped(library, memory, put_run, caplog):
    run_id = put_run("steps_00001")
    memory.pipe_file("/bucket/runs/other/run.json", b"\xff no JSON")
    assert list(library.runs()) == [run_id]


def test_a_name_that_is_a_file_and_a_folder_costs_only_itself(library, memory, put_run):
    """In an object store, a file may have the name of a folder."""
    run_id = put_run("steps_00001")
    memory.store["/bucket/runs/marks.json/run.json"] = memory.store["/bucket/runs/steps_00001/run.json"]
    memory.store["/bucket/runs/marks.json"] = memory.store["/bucket/runs/steps_00001/run.json"]
    assert run_id in library.runs()


def test_the_temporary_folder_is_removed_with_the_library(store):
    files = RemoteFiles(store)
    folder = files.folder
    assert folder.is_dir()
    del files
    gc.collect()
    assert not folder.exists()
