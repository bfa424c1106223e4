"""What was read of a file is kept while the file is as it was, no longer."""

import gc
import os
import weakref

import pytest
from safelight.decoders.files import read_cache
from safelight.decoders.files.read_cache import SETTLED_NS, read_cached
from safelight.errors import AlteredFileError, DecoderFileError


@pytest.fixture
def reading():
    """A reader that counts."""

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
    """Long after whatever a test writes."""
    real = read_cache.time_ns
    monkeypatch.setattr(read_cache, "time_ns", lambda: real() + 2 * SETTLED_NS)


def test_a_file_that_has_settled_is_read_once(tmp_path, reading, later):
    path = tmp_path / "a"
    path.write_text("one")
    assert [read_cached(reading, path), read_cached(reading, path)] == [("one",), ("one",)]
    assert reading.count == 1


def test_another_question_of_the_same_file_is_another(tmp_path, reading, later):
    path = tmp_path / "a"
    path.write_text("one")
    assert read_cached(reading, path, "x") == ("one", "x")
    assert read_cached(reading, path, "y") == ("one", "y")


def test_a_file_that_was_just_written_is_read_each_time(tmp_path, reading, monkeypatch):
    path = tmp_path / "a"
    path.write_text("?")
    stamp = read_cache.FileStamp.of(path)
    monkeypatch.setattr(read_cache.FileStamp, "of", lambda path: stamp)  # a clock that ticks too seldom to tell
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


def test_a_file_that_cannot_be_read_is_asked_once_and_refused_each_time(tmp_path, reading, later):
    path = tmp_path / "a"
    path.write_text("!altered")
    for _ in range(3):
        with pytest.raises(AlteredFileError, match="!altered"):
            read_cached(reading, path)
    assert reading.count == 1


def test_what_a_refused_file_held_is_let_go(tmp_path, later):
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
def test_a_file_that_is_not_there_is_left_to_the_reader(tmp_path, name):
    def read(path):
        raise DecoderFileError(f"nothing at {path!r}")

    with pytest.raises(DecoderFileError, match="nothing at"):
        read_cached(read, tmp_path / name)
