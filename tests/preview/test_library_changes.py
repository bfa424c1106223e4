"""Stars, notes, delete and undo in a library: what is written, and what can never be deleted."""

import json
import os
import shutil
import uuid

import pytest
from safelight.decoders.files.contained_file import remove_below
from safelight.errors import GoneError, LibraryError
from safelight.preview import run_trash
from safelight.preview.run_library import RUNNING_S, RunLibrary
from safelight.preview.run_marks import MARKS_NAME, MAX_NOTE_CHARS
from safelight.preview.run_trash import TIME_IN_TRASH, TRASH, trashed_runs


def write_run(folder, number=0, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": "safelight.run/1",
        "id": str(uuid.UUID(int=number + 1)),
        "state": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "host": {},
        "sampler": {},
        "steps": [],
    } | facts
    (folder / "run.json").write_text(json.dumps(manifest))
    (folder / "step_0001.png").write_bytes(b"picture")
    return manifest["id"]


def tree(root):
    """All files and folders in a folder, with the content of the files, without the trash's own."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if ".safelight" not in path.parts
    }


# Stars and notes


def test_a_star_and_a_note_are_written_beside_the_manifest_and_leave_it_as_it_is(tmp_path):
    run = write_run(tmp_path / "a")
    before = (tmp_path / "a" / "run.json").read_bytes()
    library = RunLibrary(tmp_path)
    assert library.mark(run, star=True).marks.star
    assert library.mark(run, note="  the\r\nbest\x1b[2J one \ud800").item["note"] == "the\nbest[2J one"
    [entry] = RunLibrary(tmp_path).runs().values()
    assert (entry.marks.star, entry.marks.note) == (True, "the\nbest[2J one")
    assert (tmp_path / "a" / "run.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [MARKS_NAME, "run.json", "step_0001.png"]
    assert not library.mark(run, star=False).marks.star
    assert library.runs()[run].marks.note


def test_a_long_note_is_cut_off(tmp_path):
    run = write_run(tmp_path / "a")
    assert len(RunLibrary(tmp_path).mark(run, note="x" * 99_999).marks.note) == MAX_NOTE_CHARS


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": "other", "star": true}', "[" * 90_000, "x" * 70_000])
def test_a_damaged_file_of_marks_is_no_star_and_can_be_replaced(tmp_path, content):
    run = write_run(tmp_path / "a")
    (tmp_path / "a" / MARKS_NAME).write_text(content)
    library = RunLibrary(tmp_path)
    assert not library.runs()[run].marks.star
    assert library.mark(run, star=True).marks.star


def test_marks_are_never_written_through_a_link(tmp_path):
    root, outside = tmp_path / "runs", tmp_path / "outside.json"
    run = write_run(root / "a")
    outside.write_text('{"format": "safelight.marks/1", "star": true}')
    (root / "a" / MARKS_NAME).symlink_to(outside)
    library = RunLibrary(root)
    assert not library.runs()[run].marks.star
    library.mark(run, star=False, note="mine")
    assert outside.read_text() == '{"format": "safelight.marks/1", "star": true}'
    assert not (root / "a" / MARKS_NAME).is_symlink()


def test_marks_of_an_unknown_run_are_refused(tmp_path):
    write_run(tmp_path / "a")
    with pytest.raises(GoneError, match=r"there is no such run"):
        RunLibrary(tmp_path).mark("../a", star=True)


def test_a_disk_that_is_full_is_reported(tmp_path, monkeypatch):
    run = write_run(tmp_path / "a")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safelight.preview.run_marks.write_below", fail)
    with pytest.raises(LibraryError, match=r"cannot be written into a: .*No space left"):
        RunLibrary(tmp_path).mark(run, star=True)


# Delete and undo


def test_a_deleted_run_is_in_the_trash_and_comes_back_with_all_its_files(tmp_path):
    run, other = write_run(tmp_path / "day" / "a"), write_run(tmp_path / "b", 1)
    (tmp_path / "day" / "a" / "notes of mine.txt").write_text("words")
    library = RunLibrary(tmp_path)
    library.mark(run, star=True)
    before = tree(tmp_path)
    token = library.delete(run)
    assert list(library.runs()) == [other]
    assert not (tmp_path / "day" / "a").exists()
    [trashed] = trashed_runs(tmp_path)
    assert (trashed.token, trashed.folder.as_posix()) == (token, "day/a")
    assert list(RunLibrary(tmp_path).runs()) == [other], "a run in the trash is listed"
    assert library.restore(token) == [run]
    assert tree(tmp_path) == before
    assert trashed_runs(tmp_path) == []
    assert library.runs()[run].marks.star


def test_a_run_comes_back_under_another_name_if_its_own_is_taken(tmp_path):
    """ComfyUI gives the number of the last folder again."""
    run = write_run(tmp_path / "steps_00001")
    library = RunLibrary(tmp_path)
    token = library.delete(run)
    write_run(tmp_path / "steps_00001", 1)
    assert library.restore(token) == [run]
    assert library.runs()[run].folder.name == "steps_00001_restored"


def test_further_runs_of_a_prompt_are_deleted_and_restored_with_the_first(tmp_path):
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "a" / "run_002", 1)
    library = RunLibrary(tmp_path)
    library.runs()
    assert (library.inner_runs(first), library.inner_runs(second)) == (1, 0)
    token = library.delete(first)
    assert library.runs() == {}
    assert set(library.restore(token)) == {first, second}
    library.delete(second)
    assert list(library.runs()) == [first]


@pytest.mark.parametrize("age_s", [0.0, RUNNING_S - 60])
def test_a_running_run_is_not_deleted(tmp_path, age_s):
    run = write_run(tmp_path / "a", state="running")
    written = (tmp_path / "a" / "run.json").stat().st_mtime
    library = RunLibrary(tmp_path, clock=lambda: written + age_s)
    with pytest.raises(LibraryError, match=r"a is still running; stop it first"):
        library.delete(run)


def test_a_run_that_was_killed_long_ago_is_deleted(tmp_path):
    run = write_run(tmp_path / "a", state="running")
    written = (tmp_path / "a" / "run.json").stat().st_mtime
    library = RunLibrary(tmp_path, clock=lambda: written + RUNNING_S + 1)
    library.delete(run)
    assert library.runs() == {}


def test_a_run_with_a_running_one_in_its_folder_is_not_deleted(tmp_path):
    run = write_run(tmp_path / "a")
    write_run(tmp_path / "a" / "run_002", 1, state="running")
    with pytest.raises(LibraryError, match=r"still running"):
        RunLibrary(tmp_path).delete(run)


def test_the_folder_of_the_library_itself_is_not_deleted(tmp_path):
    run = write_run(tmp_path)
    with pytest.raises(LibraryError, match=r"is the folder that is open"):
        RunLibrary(tmp_path).delete(run)
    assert (tmp_path / "run.json").exists()


@pytest.mark.parametrize("handle", ["", ".", "..", "../outside", "a", "a/..", "/", "\0", "day/a", "*"])
def test_only_the_handle_of_a_listed_run_deletes_anything(tmp_path, handle):
    root = tmp_path / "root"
    write_run(root / "a")
    write_run(tmp_path / "outside", 1)
    before = tree(tmp_path)
    with pytest.raises(GoneError):
        RunLibrary(root).delete(handle)
    assert tree(tmp_path) == before


def test_a_folder_without_a_manifest_that_we_read_is_not_deleted(tmp_path):
    """It was listed, and then its manifest was damaged or removed."""
    for content in ("{}", None):
        run = write_run(tmp_path / "a")
        library = RunLibrary(tmp_path)
        library.runs()
        if content is None:
            (tmp_path / "a" / "run.json").unlink()
        else:
            (tmp_path / "a" / "run.json").write_text(content)
        with pytest.raises(GoneError):
            library.delete(run)
        assert (tmp_path / "a" / "step_0001.png").exists()


@pytest.mark.parametrize("where", ["run", "day"])
def test_a_folder_that_became_a_link_is_not_deleted(tmp_path, monkeypatch, where):
    """Between the look at it and the move."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    run = write_run(root / "day" / "a")
    library = RunLibrary(root)
    library.runs()
    moving = root / "day" if where == "day" else root / "day" / "a"

    def replace_by_link(*_):
        moving.rename(outside)
        moving.symlink_to(outside)
        return {}

    monkeypatch.setattr("safelight.preview.run_library.read_manifest", replace_by_link)
    with pytest.raises(LibraryError, match=r"cannot be moved"):
        library.delete(run)
    found = outside / "a" if where == "day" else outside
    assert (found / "step_0001.png").read_bytes() == b"picture"
    assert trashed_runs(root) == []


@pytest.mark.parametrize("part", [".safelight", ".safelight/trash"])
def test_nothing_is_moved_into_a_trash_that_is_a_link(tmp_path, part):
    root, outside = tmp_path / "root", tmp_path / "outside"
    run = write_run(root / "a")
    outside.mkdir()
    (root / part).parent.mkdir(exist_ok=True)
    (root / part).symlink_to(outside)
    with pytest.raises(LibraryError, match=r"cannot be moved"):
        RunLibrary(root).delete(run)
    assert (root / "a" / "run.json").exists()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("token", ["", "..", "../../x", "0" * 16, "x" * 16, "\0", "0123456789ABCDEF"])
def test_an_unknown_token_restores_nothing(tmp_path, token):
    write_run(tmp_path / "a")
    with pytest.raises(GoneError, match=r"not in the trash"):
        RunLibrary(tmp_path).restore(token)


@pytest.mark.parametrize("folder", ["../outside", "/tmp/outside", ".hidden/a", "a/../../outside", "", 5, None, "a/.."])
def test_a_place_in_the_trash_that_leads_out_restores_nothing(tmp_path, folder):
    root = tmp_path / "root"
    run = write_run(root / "a")
    library = RunLibrary(root)
    token = library.delete(run)
    origin = root / TRASH / token / "origin.json"
    origin.write_text(json.dumps(json.loads(origin.read_text()) | {"folder": folder}))
    with pytest.raises(GoneError):
        library.restore(token)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_trashed_folder_that_became_a_link_is_not_restored(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    library = RunLibrary(root)
    run = write_run(root / "a")
    token = library.delete(run)
    (root / TRASH / token / "run").rename(outside)
    (root / TRASH / token / "run").symlink_to(outside)
    with pytest.raises(LibraryError, match=r"cannot be restored"):
        library.restore(token)
    assert not os.path.lexists(root / "a")


def test_a_name_that_is_no_text_is_deleted_and_restored(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    run = write_run(folder)
    library = RunLibrary(tmp_path)
    assert json.dumps(library.runs()[run].item["folder"]) == '"caf?"'
    assert library.restore(library.delete(run)) == [run]
    assert folder.is_dir()


# The end of what was deleted

NOW_S = 1_800_000_000.0  # January 2027
DAY_S = 24 * 3600.0
IN_TRASH_S = TIME_IN_TRASH.total_seconds()


class Days:
    """A clock that counts days from `NOW_S`."""

    day = 0.0

    def __call__(self):
        return NOW_S + self.day * DAY_S


def test_a_run_stays_in_the_trash_for_30_days_and_is_then_removed(tmp_path):
    clock = Days()
    library = RunLibrary(tmp_path, clock=clock)
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", 1)
    token = library.delete(first)
    clock.day = 20
    later = library.delete(second)
    clock.day = IN_TRASH_S / DAY_S
    library.runs()
    assert {run.token for run in trashed_runs(tmp_path)} == {token, later}
    clock.day += 1.5
    library.runs()
    assert [run.token for run in trashed_runs(tmp_path)] == [later]
    assert [path.name for path in (tmp_path / TRASH).iterdir()] == [later]
    with pytest.raises(GoneError):
        library.restore(token)
    assert library.restore(later) == [second]


def test_the_trash_is_looked_at_when_the_library_is_opened_and_once_a_day(tmp_path):
    clock = Days()
    RunLibrary(tmp_path, clock=clock).delete(write_run(tmp_path / "a"))
    clock.day = 40
    library = RunLibrary(tmp_path, clock=clock)
    library.known()
    assert len(trashed_runs(tmp_path)) == 1, "a look that reads no folder changes none"
    library.runs()
    assert trashed_runs(tmp_path) == []
    token = RunLibrary(tmp_path, clock=lambda: NOW_S).delete(write_run(tmp_path / "b"))
    clock.day += 0.9
    library.runs()
    assert [run.token for run in trashed_runs(tmp_path)] == [token]
    clock.day += 0.2
    library.runs()
    assert trashed_runs(tmp_path) == []


@pytest.mark.parametrize("deleted", ["", "yesterday", "2020-01-01", "2020-01-01T00:00:00", "2999-01-01T00:00:00+00:00"])
def test_a_run_with_a_date_that_is_none_or_still_to_come_stays_in_the_trash(tmp_path, deleted):
    run = write_run(tmp_path / "a")
    token = RunLibrary(tmp_path, clock=lambda: NOW_S).delete(run)
    origin = tmp_path / TRASH / token / "origin.json"
    origin.write_text(json.dumps(json.loads(origin.read_text()) | {"deleted": deleted}))
    library = RunLibrary(tmp_path, clock=lambda: NOW_S + 100 * DAY_S)
    library.runs()
    assert library.restore(token) == [run]


def test_links_in_the_trash_are_removed_and_not_followed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("words")
    run = write_run(root / "a")
    (root / "a" / "deep" / "deeper").mkdir(parents=True)
    (root / "a" / "deep" / "folder").symlink_to(outside)
    (root / "a" / "deep" / "file.txt").symlink_to(outside / "precious.txt")
    RunLibrary(root, clock=lambda: NOW_S).delete(run)
    RunLibrary(root, clock=lambda: NOW_S + 100 * DAY_S).runs()
    assert list((root / TRASH).iterdir()) == []
    assert (outside / "precious.txt").read_text() == "words"


@pytest.mark.parametrize("part", [".safelight", ".safelight/trash"])
def test_a_trash_that_became_a_link_is_not_emptied(tmp_path, part):
    root, outside = tmp_path / "root", tmp_path / "outside"
    token = RunLibrary(root, clock=lambda: NOW_S).delete(write_run(root / "a"))
    (root / part).rename(outside)
    (root / part).symlink_to(outside)
    RunLibrary(root, clock=lambda: NOW_S + 100 * DAY_S).runs()
    assert [path.name for path in outside.rglob("run.json")] == ["run.json"], token


def test_a_run_that_cannot_be_removed_does_not_keep_the_others(tmp_path, caplog, monkeypatch):
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", 1)
    library = RunLibrary(tmp_path, clock=lambda: NOW_S)
    stuck, _ = library.delete(first), library.delete(second)

    def remove(folder, relative):
        if relative.name == stuck:
            raise PermissionError(13, "Permission denied")
        remove_below(folder, relative)

    monkeypatch.setattr(run_trash, "remove_below", remove)
    RunLibrary(tmp_path, clock=lambda: NOW_S + 100 * DAY_S).runs()
    assert [run.token for run in trashed_runs(tmp_path)] == [stuck]
    assert "a cannot be removed from the trash" in caplog.text


def test_folders_that_are_nested_too_deeply_stay_in_the_trash_and_the_library_goes_on(tmp_path, caplog, monkeypatch):
    """Until Python 3.11, the standard library calls itself for each level."""
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", 1)
    token = RunLibrary(tmp_path, clock=lambda: NOW_S).delete(first)

    def walk(*_, **__):
        raise RecursionError("maximum recursion depth exceeded")

    for module, name in ((os, "fwalk"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, walk)
    assert list(RunLibrary(tmp_path, clock=lambda: NOW_S + 100 * DAY_S).runs()) == [second]
    assert [run.token for run in trashed_runs(tmp_path)] == [token]
    assert "too many folders inside each other" in caplog.text


def test_a_name_in_the_trash_stays_in_its_line_of_the_log(tmp_path, caplog, monkeypatch):
    library = RunLibrary(tmp_path, clock=lambda: NOW_S)
    token = library.delete(write_run(tmp_path / "a"))
    origin = tmp_path / TRASH / token / run_trash.ORIGIN_NAME
    origin.write_text(json.dumps(json.loads(origin.read_text()) | {"folder": "a\x1b[31m\nb"}))

    def remove(folder, relative):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(run_trash, "remove_below", remove)
    RunLibrary(tmp_path, clock=lambda: NOW_S + 100 * DAY_S).runs()
    assert "a\\x1b[31m\\nb cannot be removed" in caplog.text
