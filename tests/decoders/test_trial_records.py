"""Tests the file that remembers trials of decoder files."""

import json

import pytest
from safelight.decoders import trial_records
from safelight.decoders.agreement import Agreement
from safelight.decoders.trial_records import (
    MAX_FILES,
    MAX_NOTED,
    TRIALS_FILE,
    TrialRecords,
    read_trials,
    sha256_of,
    write_trials,
)
from safelight.errors import DecoderFileError

ONE = Agreement(1, (0.5, 1.0, 0.25), (0.1, 0.2, 0.3))


def tried(path, space="wan21", agreement=ONE, records=None):
    return (records or TrialRecords()).with_trial(sha256_of(path), path.name, path.stat().st_size, space, agreement)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"a decoder")
    return path


def test_records_are_read_as_they_were_written(tmp_path, file):
    records = tried(file, "flux1", records=tried(file)).with_noted(["b.pth, 3 bytes"])
    write_trials(tmp_path / "new", records)
    assert read_trials(tmp_path / "new") == records
    assert [path.name for path in (tmp_path / "new").iterdir()] == [TRIALS_FILE]


def test_a_file_is_known_by_its_content_and_not_by_its_name(tmp_path, file):
    records = tried(file)
    other = tmp_path / "other name.pth"
    other.write_bytes(file.read_bytes())
    assert records.of(other) == {"wan21": ONE}
    other.write_bytes(b"A decoder")
    assert records.of(other) == {}
    assert records.of(tmp_path / "missing") == {}


def test_a_file_of_another_size_is_not_read(tmp_path, file, monkeypatch):
    records = tried(file)
    (tmp_path / "large").write_bytes(b"much larger")
    monkeypatch.setattr(trial_records, "sha256_of", lambda _: pytest.fail("the file was read"))
    assert records.of(tmp_path / "large") == {}


def test_trials_of_one_space_add_up(file):
    assert tried(file, records=tried(file)).of(file) == {"wan21": ONE + ONE}


def test_the_oldest_files_and_notes_are_forgotten(file):
    records = TrialRecords()
    for i in range(MAX_FILES + 5):
        records = records.with_trial(f"{i:064}", f"{i}", i, "wan21", ONE)
    assert len(records.files) == MAX_FILES
    assert f"{4:064}" not in records.files
    assert f"{5:064}" in records.files
    assert records.with_trial(f"{5:064}", "5", 5, "flux1", ONE).files.keys() == records.files.keys()
    noted = TrialRecords().with_noted(map(str, range(MAX_NOTED + 5))).noted
    assert (len(noted), noted[0]) == (MAX_NOTED, "5")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": "safelight.trials/2", "files": {}, "noted": []}',
        '{"format": "safelight.trials/1", "files": [], "noted": []}',
        '{"format": "safelight.trials/1", "files": {"a": {"name": "a", "bytes": 1, "spaces": {"b": {}}}}, "noted": []}',
        json.dumps(
            {
                "format": "safelight.trials/1",
                "files": {
                    "a": {
                        "name": "a",
                        "bytes": 1,
                        "spaces": {"b": {"pictures": 1, "luma": [float("nan"), 1, 1], "chroma": [1, 1, 1]}},
                    }
                },
                "noted": [],
            }
        ),
        "[" * 100_000,
    ],
    ids=["empty", "cut", "list", "newer", "other type", "missing", "nan", "deep"],
)
def test_a_damaged_file_counts_as_missing_and_is_written_again(tmp_path, file, text):
    (tmp_path / TRIALS_FILE).write_text(text)
    assert read_trials(tmp_path) == TrialRecords()
    write_trials(tmp_path, tried(file, records=read_trials(tmp_path)))
    assert read_trials(tmp_path).of(file) == {"wan21": ONE}


def test_a_file_that_cannot_be_read_has_no_sha256(tmp_path):
    with pytest.raises(DecoderFileError, match="cannot be read"):
        sha256_of(tmp_path / "missing")
