"""Folders in a host's output folder: paths that lead out are refused, numbers are never shared, room is counted."""

import errno
import shutil
import threading

import pytest
from safelight.errors import GoneError, SinkError
from safelight.preview.output_folder import (
    DISK_RESERVE_BYTES,
    check_prefix_name,
    create_inner_folder,
    create_numbered_folder,
    disk_room,
    existing_folder,
    is_inner_folder,
    numbered_folder,
    prefix_folder,
)


def test_a_typed_folder_is_found_in_the_output_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert existing_folder(tmp_path, "a/b") == (tmp_path / "a" / "b").resolve()
    assert existing_folder(tmp_path, "a/../a") == (tmp_path / "a").resolve()


@pytest.mark.parametrize(
    ("typed", "message"),
    [("..", "leads out of"), ("/etc", "leads out of"), ("nowhere", "no such folder"), ("a\0", "not a path")],
)
def test_a_typed_folder_that_is_outside_or_missing_is_refused(tmp_path, typed, message):
    with pytest.raises(GoneError, match=message):
        existing_folder(tmp_path, typed)


def test_a_prefix_leads_to_a_path_that_need_not_exist(tmp_path):
    assert prefix_folder(tmp_path, "a/steps") == (tmp_path / "a" / "steps").resolve()
    assert list(tmp_path.iterdir()) == []


def test_a_prefix_that_leads_out_through_a_link_is_refused(tmp_path):
    output, outside = tmp_path / "output", tmp_path / "outside"
    output.mkdir()
    outside.mkdir()
    (output / "link").symlink_to(outside, target_is_directory=True)
    with pytest.raises(SinkError, match="expected a path inside the output folder"):
        prefix_folder(output, "link/steps")


def test_a_prefix_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="file is a file; choose another path"):
        prefix_folder(tmp_path, "file/steps")


@pytest.mark.parametrize("code", [errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP])
def test_an_error_that_stays_refuses_the_prefix(code):
    def create(path):
        raise OSError(code, "no")

    with pytest.raises(SinkError, match="filename_prefix 'a%b%': no folder can be created there"):
        check_prefix_name("a%b%", "a1", create)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_error_that_may_be_gone_later_does_not_refuse_the_prefix(code):
    tried = []

    def create(path):
        tried.append(path)
        raise OSError(code, "no")

    check_prefix_name("a", create=create)
    assert tried == ["a"]


def test_the_name_is_checked_after_variables_are_replaced_and_before_anything_is_created():
    created = []
    with pytest.raises(SinkError, match="'%x%': nul is the name of a device"):
        check_prefix_name("%x%", "nul", created.append)
    check_prefix_name("%x%", "a1", created.append)
    assert created == ["a1"]


def test_other_errors_of_the_host_pass_through():
    def create(path):
        raise RuntimeError("outside")

    with pytest.raises(RuntimeError, match="outside"):
        check_prefix_name("a", create=create)


def test_a_number_may_begin_where_the_host_begins(tmp_path):
    assert numbered_folder(tmp_path, "run", 7).name == "run_00007"
    (tmp_path / "run_00007").symlink_to(tmp_path / "nowhere")
    assert create_numbered_folder(tmp_path, "run", 7) == tmp_path / "run_00008"


def test_two_runs_never_share_a_numbered_folder(tmp_path):
    folders = []
    threads = [
        threading.Thread(target=lambda: folders.append(create_numbered_folder(tmp_path / "a", "run")))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 16
    assert all(folder.is_dir() for folder in folders)


def test_further_runs_of_a_prompt_get_the_next_free_numbers_from_2(tmp_path):
    (tmp_path / "run_003").write_text("a file of the user")
    folders = [create_inner_folder(tmp_path) for _ in range(3)]
    assert [folder.name for folder in folders] == ["run_002", "run_004", "run_005"]
    assert all(folder.is_dir() and is_inner_folder(folder.name) for folder in folders)


@pytest.mark.parametrize("name", ["run_02", "run_", "step_0001", "run_002x", "xrun_002", "frame_001"])
def test_other_names_are_not_those_of_further_runs(name):
    assert not is_inner_folder(name)


def test_a_folder_that_cannot_be_created_is_returned_for_its_sink_to_report(tmp_path):
    (tmp_path / "file").write_text("")
    folder = create_numbered_folder(tmp_path / "file", "run")
    assert folder == tmp_path / "file" / "run_00001"
    assert not folder.exists()


def test_the_room_of_a_folder_that_does_not_exist_is_that_of_its_disk(tmp_path, monkeypatch):
    asked = []

    def disk_usage(folder):
        asked.append(folder)
        return shutil._ntuple_diskusage(total=9 * DISK_RESERVE_BYTES, used=0, free=3 * DISK_RESERVE_BYTES)

    monkeypatch.setattr("shutil.disk_usage", disk_usage)
    assert disk_room(tmp_path / "a" / "b") == (2 * DISK_RESERVE_BYTES, "the disk")
    assert asked == [tmp_path]


@pytest.mark.parametrize("prefix", ["", ".", "./", "a/..", "..", " "])
def test_a_prefix_without_a_name_is_refused(tmp_path, prefix):
    with pytest.raises(SinkError, match=r"it names no folder|ends in a dot or a blank"):
        check_prefix_name(prefix)
    with pytest.raises(SinkError, match="filename_prefix"):
        prefix_folder(tmp_path, prefix)


@pytest.mark.parametrize("prefix", [".a", "..a", ".a/b", "a/.b", "a/./.b"])
def test_a_prefix_of_a_hidden_folder_is_refused(tmp_path, prefix):
    with pytest.raises(SinkError, match="begins with a dot is hidden"):
        prefix_folder(tmp_path, prefix)


@pytest.mark.parametrize("prefix", ["a/b/", "./a", "a/../b", "a//b"])
def test_a_prefix_with_more_slashes_or_dots_than_needed_is_accepted(tmp_path, prefix):
    check_prefix_name(prefix)
    assert prefix_folder(tmp_path, prefix).name in ("a", "b")


def test_a_full_path_inside_the_output_folder_is_accepted(tmp_path):
    check_prefix_name(str(tmp_path / "a" / "steps"))
    assert prefix_folder(tmp_path, str(tmp_path / "a" / "steps")) == (tmp_path / "a" / "steps").resolve()
