"""Tests that results are cached while a file is unchanged, and no longer."""

import gc
import os
import weakref

import pytest
from safelight.decoders.files import read_cache
from safelight.decoders.files.read_cache import SETTLED_NS, FolderStamp, read_cached
from safelight.errors import AlteredFileError, DecoderFileError


@pytest.fixture
def reading():
    """Returns a reader that counts its calls."""

    def read(path, *rest):
        read.count += 1
        text = path.read_text()
        if text.startswith("!"):
            raise AlteredFileError(text)
        return (text, *rest)

    read.count = 0
    return read


@pytest.fixture
def later(monkeypatch):
    """Moves the clock far beyond all writes of a test."""
    real = read_cache.time_ns
    monkeypatch.setattr(read_cache, "time_ns", lambda: real() + 2 * SETTLED_NS)


def test_a_file_that_is_old_enough_is_read_once(tmp_path, reading, later):
    path = tmp_path / "a"
    path.write_text("one")
    assert [read_cached(reading, path), read_cached(reading, path)] == [("one",), ("one",)]
    assert reading.count == 1


def test_other_arguments_for_the_same_file_are_cached_separately(tmp_path, reading, later):
    path = tmp_path / "a"
    path.write_text("one")
    assert read_cached(reading, path, "x") == ("one", "x")
    assert read_cached(reading, path, "y") == ("one", "y")


def test_a_recently_written_file_is_read_each_time(tmp_path, reading, monkeypatch):
    path = tmp_path / "a"
    path.write_text("?")
    stamp = read_cache.FileStamp.of(path)
    monkeypatch.setattr(read_cache.FileStamp, "of", lambda path: stamp)  # as with a clock that is too coarse
    for i in range(5):
        path.write_text(str(i))
        assert read_cached(reading, path) == (str(i),)


@pytest.mark.parametrize("how", ["written", "replaced", "touched", "grown"])
def test_a_file_that_changed_is_read_again(tmp_path, reading, later, how):
    path = tmp_path / "a"
    path.write_text("one")
    read_cached(reading, path)
    before = path.stat().st_mtime_ns
    if how == "replaced":
        (tmp_path / "b").write_text("two")
        os.utime(tmp_path / "b", ns=(before, before))
        (tmp_path / "b").replace(path)
    else:
        path.write_text({"written": "two", "touched": "one", "grown": "one more"}[how])
        os.utime(path, ns=(before, before + (how != "grown")))
    assert read_cached(reading, path) == (path.read_text(),)
    assert reading.count == 2


def test_an_unreadable_file_is_read_once_and_refused_each_time(tmp_path, reading, later):
    path = tmp_path / "a"
    path.write_text("!altered")
    for _ in range(3):
        with pytest.raises(AlteredFileError, match="!altered"):
            read_cached(reading, path)
    assert reading.count == 1


def test_the_content_of_a_refused_file_is_freed(tmp_path, later):
    class Content:
        pass

    held = []

    def read(path):
        content = Content()
        held.append(weakref.ref(content))
        raise DecoderFileError("refused")

    (tmp_path / "a").write_text("x")
    with pytest.raises(DecoderFileError):
        read_cached(read, tmp_path / "a")
    gc.collect()
    assert held[0]() is None


@pytest.mark.parametrize("name", ["nowhere", "\0"])
def test_a_missing_file_is_reported_by_the_reader(tmp_path, name):
    def read(path):
        raise DecoderFileError(f"nothing at {path!r}")

    with pytest.raises(DecoderFileError, match="nothing at"):
        read_cached(read, tmp_path / name)


# Folders


@pytest.fixture
def reading_folder():
    """Returns a function that reads all files of a folder, cached while they are unchanged, and counts its reads."""

    def read(path):
        read_folder.count += 1
        return {file.name: file.read_text() for file in path.iterdir()}

    def read_folder(path):
        return read_cached(read, path, stamp_of=FolderStamp.of)

    read_folder.count = 0
    return read_folder


def test_a_folder_whose_files_are_old_enough_is_read_once(tmp_path, reading_folder, later):
    (tmp_path / "a").write_text("one")
    assert [reading_folder(tmp_path), reading_folder(tmp_path)] == [{"a": "one"}] * 2
    assert reading_folder.count == 1


@pytest.mark.parametrize("how", ["written", "touched", "added", "removed", "renamed"])
def test_a_folder_in_which_a_file_changed_is_read_again(tmp_path, reading_folder, later, how):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    reading_folder(tmp_path)
    match how:
        case "written":
            (tmp_path / "b").write_text("c")
        case "touched":
            os.utime(tmp_path / "b", ns=(0, 0))
        case "added":
            (tmp_path / "c").write_text("c")
        case "removed":
            (tmp_path / "b").unlink()
        case "renamed":
            (tmp_path / "b").rename(tmp_path / "c")
    assert reading_folder(tmp_path) == {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert reading_folder.count == 2


def test_a_folder_with_a_recently_written_file_is_read_each_time(tmp_path, reading_folder):
    (tmp_path / "a").write_text("one")
    assert [reading_folder(tmp_path), reading_folder(tmp_path)] == [{"a": "one"}] * 2
    assert reading_folder.count == 2
