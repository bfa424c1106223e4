"""Files inside a folder: no link is followed, no file outside is written."""

import os
import stat
import time
from pathlib import Path, PurePath, PureWindowsPath
from types import SimpleNamespace

import pytest
from safelight.decoders.files import contained_file
from safelight.decoders.files.contained_file import open_below, read_below, write_below
from safelight.decoders.files.regular_file import TooLargeError


@pytest.fixture(params=["handles", "paths"])
def _both_ways(request, monkeypatch):
    if request.param == "handles" and not contained_file.HAS_FOLDER_HANDLES:
        pytest.skip("this system has no folder handles")
    monkeypatch.setattr(contained_file, "HAS_FOLDER_HANDLES", request.param == "handles")


@pytest.fixture
def places(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    return inside, outside


pytestmark = pytest.mark.usefixtures("_both_ways")


def test_a_file_that_was_written_is_read_again_and_leaves_nothing_else(places):
    inside, _ = places
    for content in (b"first", b"second"):
        write_below(inside, PurePath("a/b/file.bin"), content)
        assert read_below(inside, PurePath("a/b/file.bin"), 100) == content
    assert [path.name for path in inside.rglob("*") if path.is_file()] == ["file.bin"]


def test_a_link_is_neither_read_nor_written_through(places):
    inside, outside = places
    (inside / "link.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside)
    for relative in ("link.txt", "folder/secret.txt"):
        with pytest.raises(OSError, match=r".*"):
            open_below(inside, PurePath(relative)).close()
    with pytest.raises(OSError, match=r".*"):
        write_below(inside, PurePath("folder/new.txt"), b"x")
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


def test_a_link_at_the_files_own_name_is_replaced_and_not_followed(places):
    inside, outside = places
    (inside / "link.txt").symlink_to(outside / "secret.txt")
    if contained_file.HAS_FOLDER_HANDLES:
        write_below(inside, PurePath("link.txt"), b"x")
        assert not (inside / "link.txt").is_symlink()
    assert (outside / "secret.txt").read_text() == "secret"


@pytest.mark.parametrize(
    "relative", ["../outside/secret.txt", "", "/etc/hostname", "a/../../outside/secret.txt", "a\0b"]
)
def test_a_path_that_leads_out_is_refused(places, relative):
    inside, _ = places
    with pytest.raises(OSError, match="inside the folder"):
        open_below(inside, PurePath(relative))
    with pytest.raises(OSError, match="inside the folder"):
        write_below(inside, PurePath(relative), b"x")


def test_a_file_over_the_limit_and_what_is_no_file_are_refused(places):
    inside, _ = places
    (inside / "file").write_bytes(b"12345")
    assert read_below(inside, PurePath("file"), 5) == b"12345"
    with pytest.raises(TooLargeError):
        read_below(inside, PurePath("file"), 4)
    (inside / "folder").mkdir()
    with pytest.raises(OSError, match=r".*"):
        open_below(inside, PurePath("folder"))
    if hasattr(os, "mkfifo"):
        os.mkfifo(inside / "pipe")
        with pytest.raises(OSError, match="expected a file"):
            open_below(inside, PurePath("pipe"))


def test_a_write_that_fails_leaves_the_old_file_and_no_other(places, monkeypatch):
    inside, _ = places
    write_below(inside, PurePath("file"), b"old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_below(inside, PurePath("file"), b"new")
    assert {path.name: path.read_bytes() for path in inside.iterdir()} == {"file": b"old"}


def test_a_link_under_the_name_that_a_partial_file_used_to_have_is_not_written_to(places):
    inside, outside = places
    (inside / ".file.part").symlink_to(outside / "secret.txt")
    write_below(inside, PurePath("file"), b"new")
    assert (outside / "secret.txt").read_text() == "secret"
    assert Path(inside / "file").read_bytes() == b"new"


@pytest.mark.parametrize("relative", ["C:secret.txt", "\\secret.txt", "C:\\secret.txt", "\\\\?\\C:\\secret.txt"])
def test_a_path_with_a_drive_or_the_root_of_one_is_refused(places, relative):
    inside, _ = places
    with pytest.raises(OSError, match="inside the folder"):
        open_below(inside, PureWindowsPath(relative))
    with pytest.raises(OSError, match="inside the folder"):
        write_below(inside, PureWindowsPath(relative), b"x")


class FileInUse:
    """`os.replace` as on Windows while another program has the old file open: it fails some times."""

    def __init__(self, times):
        self._times, self._replace = times, os.replace
        self.calls = 0

    def __call__(self, *paths, **folders):
        self.calls += 1
        if self.calls <= self._times:
            raise PermissionError(13, "The process cannot access the file because it is being used")
        self._replace(*paths, **folders)


def test_a_file_that_another_program_has_open_is_replaced_when_it_is_closed(places, monkeypatch):
    inside, _ = places
    write_below(inside, PurePath("run.json"), b"old")
    in_use, pauses = FileInUse(3), []
    monkeypatch.setattr(os, "replace", in_use)
    monkeypatch.setattr(time, "sleep", pauses.append)
    if contained_file.HAS_FOLDER_HANDLES:  # there, only the rights of the folder can be the reason
        with pytest.raises(PermissionError):
            write_below(inside, PurePath("run.json"), b"new")
        assert (in_use.calls, pauses) == (1, [])
        return
    write_below(inside, PurePath("run.json"), b"new")
    assert {path.name: path.read_bytes() for path in inside.iterdir()} == {"run.json": b"new"}
    assert pauses == list(contained_file.REPLACE_PAUSES_S[:3])


def test_a_file_that_stays_open_elsewhere_is_an_error_and_leaves_no_other_file(places, monkeypatch):
    inside, _ = places
    write_below(inside, PurePath("run.json"), b"old")
    monkeypatch.setattr(os, "replace", FileInUse(100))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(PermissionError, match="being used"):
        write_below(inside, PurePath("run.json"), b"new")
    assert {path.name: path.read_bytes() for path in inside.iterdir()} == {"run.json": b"old"}


def test_a_junction_of_windows_is_a_link(places, monkeypatch):
    inside, _ = places
    (inside / "junction").mkdir()
    (inside / "junction" / "file").write_bytes(b"x")
    real = os.lstat

    def lstat(path, **others):
        facts = real(path, **others)
        if Path(path).name != "junction":
            return facts
        return SimpleNamespace(st_mode=stat.S_IFDIR | 0o777, st_reparse_tag=0xA0000003)

    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(contained_file, "HAS_FOLDER_HANDLES", False)
    for access in (lambda path: read_below(inside, path, 10), lambda path: write_below(inside, path, b"y")):
        with pytest.raises(OSError, match="junction is a link"):
            access(PurePath("junction/file"))
