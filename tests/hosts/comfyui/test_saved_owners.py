"""On a server with users, the owners of saved runs outlive a restart, in files that no other account can read."""

import json
import os
import stat

import pytest
from safelight.hosts.comfyui import saved_owners
from safelight.hosts.comfyui.owners import Owners
from safelight.hosts.comfyui.saved_owners import MAX_OWNERS, OWNERS_NAME, SECRET_NAME, SavedOwners, stored_secret

KEY = "a key of this browser"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "user" / "__safelight"


def owner_of(folder, key=KEY):
    """The owner that a new process derives from a key."""
    return Owners(lambda: stored_secret(folder)).of(key)


def test_a_key_stands_for_the_same_owner_after_a_restart(folder):
    before = owner_of(folder)
    assert owner_of(folder) == before
    assert owner_of(folder, "a key of another browser") != before
    assert owner_of(folder.with_name("__other")) != before, "another server has another secret"


def test_owners_are_read_again_after_a_restart(folder):
    owners = SavedOwners(folder)
    assert owners.of("a") is None
    owners.add("a", "ann")
    SavedOwners(folder).add("b", "bob")  # another process
    owners.add("c", "ann")
    again = SavedOwners(folder)
    assert [again.of(run) for run in "abcd"] == ["ann", "bob", "ann", None]


def test_nothing_in_the_files_opens_a_list(folder):
    SavedOwners(folder).add("a", owner_of(folder))
    contents = b"".join(path.read_bytes() for path in folder.iterdir())
    assert KEY.encode() not in contents
    assert owner_of(folder, owner_of(folder)) != owner_of(folder), "the stored owner is no key"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_no_other_account_can_read_the_files(folder):
    SavedOwners(folder).add("a", owner_of(folder))
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())} == {
        folder.name: 0o700,
        OWNERS_NAME: 0o600,
        SECRET_NAME: 0o600,
    }


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": "other", "owners": {"a": "ann"}}', "[" * 100_000, "\0"])
def test_a_damaged_file_lists_nothing_and_is_written_again(folder, content):
    folder.mkdir(parents=True)
    (folder / OWNERS_NAME).write_text(content)
    assert SavedOwners(folder).of("a") is None
    SavedOwners(folder).add("b", "bob")
    assert SavedOwners(folder).of("b") == "bob"


def test_an_owner_that_is_no_text_is_left_out(folder):
    folder.mkdir(parents=True)
    found = {"a": 7, "b": None, "c": "ann"}
    (folder / OWNERS_NAME).write_text(json.dumps({"format": saved_owners.FORMAT, "owners": found}))
    owners = SavedOwners(folder)
    assert [owners.of(run) for run in "abc"] == [None, None, "ann"]


def test_a_damaged_secret_is_replaced(folder):
    folder.mkdir(parents=True)
    (folder / SECRET_NAME).write_bytes(b"half")
    assert owner_of(folder) == owner_of(folder)


def test_the_oldest_runs_are_forgotten(folder, monkeypatch):
    assert MAX_OWNERS > 5000
    monkeypatch.setattr(saved_owners, "MAX_OWNERS", 2)
    owners = SavedOwners(folder)
    for run in "abc":
        owners.add(run, "ann")
    assert [SavedOwners(folder).of(run) for run in "abc"] == [None, "ann", "ann"]


def test_a_folder_that_cannot_be_written_costs_a_line_in_the_log(folder, caplog):
    folder.parent.mkdir()
    folder.write_text("a file")
    secret = stored_secret(folder)
    assert len(secret) == saved_owners.SECRET_BYTES
    assert stored_secret(folder) != secret
    owners = SavedOwners(folder)
    owners.add("a", "ann")
    assert owners.of("a") == "ann"
    assert "saved runs of earlier starts are not listed" in caplog.text
    assert "after a restart, this run is not listed for its user" in caplog.text
