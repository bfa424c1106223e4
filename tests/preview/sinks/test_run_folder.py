"""A run's folder and its manifest: always readable, no partial file under its final name."""

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from safelight.decoders.decoder import Card
from safelight.decoders.files import contained_file
from safelight.errors import ManifestError
from safelight.preview.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, RUN_FORMAT, read_manifest
from safelight.preview.run import MAX_NOTES, Run
from safelight.preview.sinks.run_folder import RunFolder

# All keys of `run.json`, in the order of docs/run.md
KEYS = [
    "format",
    "id",
    "state",
    "started",
    "seconds",
    "host",
    "space",
    "decoder",
    "sampler",
    "picture",
    "steps",
    "sheet",
    "animation",
    "page",
    "notes",
]
HOST = ["name", "version", "prompt_id", "workflow_id", "node", "sampler_node"]
SAMPLER = ["steps", "sigmas", "seed", "cfg", "name", "scheduler"]
PICTURE = ["width", "height", "shown_width", "shown_height", "items", "frames", "fps"]
STEP = ["index", "sigma", "at", "show", "files", "latent", "decode_ms", "write_ms"]


@pytest.fixture
def run(clock):
    return Run(clock=clock)


@pytest.fixture
def folder(tmp_path, run):
    folder = RunFolder(tmp_path / "run", run)
    folder.open()
    return folder


def saved(folder):
    return json.loads((folder.path / MANIFEST_NAME).read_text("utf-8"))


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_a_manifest_has_all_keys_and_null_for_unknown_values(folder):
    manifest = saved(folder)
    assert list(manifest) == KEYS
    assert manifest["format"] == "safelight.run/1"
    assert manifest["state"] == "running"
    assert manifest["host"] == dict.fromkeys(HOST)
    assert manifest["sampler"] == dict.fromkeys(SAMPLER)
    assert [manifest[key] for key in ("space", "decoder", "picture", "sheet", "animation", "page")] == [None] * 6
    assert (manifest["steps"], manifest["notes"]) == ([], [])


def test_a_manifest_contains_the_known_facts(tmp_path, clock, picture):
    run = Run(
        host={"name": "comfyui", "version": "0.33.0", "node": "6:2"},
        sampler={"steps": 20, "sigmas": [1.0, 0.5], "seed": 42},
        space="flux2",
        clock=clock,
    )
    folder = RunFolder(tmp_path / "run", run)
    folder.open()
    card = Card(name="flux2-conv", space="flux2", kind="conv", scale=8, source="somewhere")
    run.describe(picture(height=4, width=6, card=card))
    run.note("step 7: trouble")
    clock.now = 12.34567
    folder.record(picture(index=7, sigma=0.97, at_s=0.412345, decode_ms=0.41234), "step_0007.png", write_ms=3.1)
    folder.announce(sheet="sheet.png")
    folder.close("finished")
    manifest = read_manifest(folder.path)
    assert manifest["host"] == dict.fromkeys(HOST) | {"name": "comfyui", "version": "0.33.0", "node": "6:2"}
    assert manifest["sampler"]["seed"] == 42
    assert manifest["space"] == "flux2"
    assert manifest["decoder"] == {"name": "flux2-conv", "kind": "conv", "scale": 8, "source": "somewhere"}
    assert list(manifest["picture"]) == PICTURE
    assert list(manifest["picture"].values()) == [6, 4, 48, 32, 1, 1, None]
    assert [list(step) for step in manifest["steps"]] == [STEP]
    assert manifest["steps"][0] == {
        "index": 7,
        "sigma": 0.97,
        "at": 0.4123,
        "show": "denoised",
        "files": ["step_0007.png"],
        "latent": None,
        "decode_ms": 0.412,
        "write_ms": 3.1,
    }
    assert (manifest["sheet"], manifest["animation"]) == ("sheet.png", None)
    assert (manifest["state"], manifest["seconds"], manifest["notes"]) == ("finished", 12.346, ["step 7: trouble"])


def test_a_run_has_an_unguessable_id_and_a_time_with_its_zone(folder):
    manifest = saved(folder)
    assert uuid.UUID(manifest["id"]).version == 4
    assert datetime.fromisoformat(manifest["started"]).tzinfo is not None
    assert Run().id != Run().id


@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
def test_the_state_changes_from_running_to_the_final_state(folder, state):
    assert saved(folder)["state"] == "running"
    folder.close(state)
    assert saved(folder)["state"] == state


def test_the_duration_of_a_run_is_fixed_at_its_end(folder, clock):
    clock.now = 5.0
    folder.close("finished")
    clock.now = 99.0
    assert folder.manifest()["seconds"] == saved(folder)["seconds"] == 5.0


def test_each_step_is_listed_once_in_order_with_its_latest_record(folder, picture):
    for index, name in ((2, "b"), (1, "a"), (2, "c")):
        folder.record(picture(index=index), name)
    assert [(step["index"], step["files"]) for step in folder.manifest()["steps"]] == [(1, ["a"]), (2, ["c"])]
    assert folder.files() == {"a", "c"}


def test_during_a_run_the_manifest_is_saved_at_most_once_a_second(folder, clock, picture, monkeypatch):
    saves = []
    monkeypatch.setattr(RunFolder, "save", lambda self, save=RunFolder.save: (saves.append(clock.now), save(self)))
    for index in range(1, 51):
        clock.now = index * 0.1
        folder.record(picture(index=index), f"{index}.png")
    assert saves == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0])
    assert len(saved(folder)["steps"]) == 50
    folder.close("finished")
    assert len(saves) == 6


class CountedTable(dict):
    """A table that counts how often all of it is read."""

    reads = 0

    def counted(name):  # noqa: N805 - no method
        def read(self, *args):
            type(self).reads += 1
            return getattr(dict, name)(self, *args)

        return read

    __iter__, __or__, __ror__, keys, values, items, copy = map(
        counted, ("__iter__", "__or__", "__ror__", "keys", "values", "items", "copy")
    )


def test_a_step_and_a_request_for_its_picture_look_at_no_other_step(folder, picture, monkeypatch):
    monkeypatch.setattr(CountedTable, "reads", 0)
    folder._steps, folder._step_of_file = CountedTable(), CountedTable()
    for index in range(1, 201):
        folder.record(picture(index=index), f"{index}.png")
        folder.record_latent(picture(index=index).step, f"{index}.safetensors")
        assert folder.lists(f"{index}.png")
        assert not folder.lists("other.png")
        assert folder.step_of(f"{index}.png")["index"] == folder.step(index)["index"] == index
    assert CountedTable.reads == 0
    assert len(folder.files()) == 200
    assert CountedTable.reads > 0


def test_saving_the_manifest_takes_at_most_a_fiftieth_of_the_time_of_a_run(folder, clock, picture):
    spent_s, saves = [], []

    def slow_disk(name):
        saves.append(name)
        spent_s.append(0.001 * len(folder.manifest()["steps"]))  # a long run has a long record
        clock.now += spent_s[-1]

    folder.on_write = slow_disk
    for index in range(1, 1001):
        clock.now += 1.0
        folder.record(picture(index=index), f"{index}.png")
    assert sum(spent_s) < clock.now / 45
    assert len(saves) > 50
    folder.close("finished")
    assert len(saved(folder)["steps"]) == 1000


def test_a_file_that_two_steps_wrote_stays_listed_when_one_of_them_is_shown_again(folder, picture):
    folder.record(picture(index=1), "a.png")
    folder.record(picture(index=2), "a.png")
    folder.record(picture(index=1), "b.png")
    assert folder.files() == {"a.png", "b.png"}
    assert folder.step_of("a.png")["index"] == 2


def test_a_failed_write_leaves_no_partial_file_and_keeps_the_old_file(folder, monkeypatch):
    folder.write("sheet.png", b"old")

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_space)
        with pytest.raises(OSError, match="No space left"):
            folder.write("sheet.png", b"new, and longer")
        with pytest.raises(OSError, match="No space left"):
            folder.write("step_0001.png", b"new")
        with pytest.raises(OSError, match="No space left"):
            folder.save()
    assert names(folder) == [MANIFEST_NAME, "sheet.png"]
    assert (folder.path / "sheet.png").read_bytes() == b"old"
    assert read_manifest(folder.path)["state"] == "running"


def test_a_file_has_its_final_name_only_when_it_is_complete(folder, monkeypatch):
    seen = []

    def slowly(file, content):
        file.write(content[:2])
        file.flush()
        seen.extend(names(folder))
        file.write(content[2:])

    monkeypatch.setattr(contained_file, "fill", slowly)
    folder.write("step_0001.png", b"content")
    partial, record = seen
    assert re.fullmatch(r"\.step_0001\.png\.[0-9a-f]{32}\.part", partial)
    assert record == MANIFEST_NAME
    assert (folder.path / "step_0001.png").read_bytes() == b"content"
    assert names(folder) == [MANIFEST_NAME, "step_0001.png"]


def test_the_size_counts_each_file_once(folder):
    folder.write("a", b"12345")
    folder.write("a", b"123")
    folder.save()
    folder.save()
    assert folder.size_bytes == sum(path.stat().st_size for path in folder.path.iterdir())


def test_notes_are_logged_once_and_limited_in_number(run, caplog):
    run.note("repeated")
    run.note("repeated")
    assert (run.notes, len(caplog.records)) == (["repeated"], 1)
    for number in range(2 * MAX_NOTES):
        run.note(f"note {number}")
    assert len(run.notes) == MAX_NOTES


def test_other_threads_read_the_steps_while_they_are_recorded(folder, picture):
    lengths, ended = [], threading.Event()

    def read():
        while not ended.is_set():
            lengths.append((len(folder.manifest()["steps"]), len(folder.files())))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for index in range(1, 501):
            folder.record(picture(index=index), f"{index}.png")
        ended.set()
        reading.result()
    assert lengths == sorted(lengths)
    assert len(folder.manifest()["steps"]) == 500


def test_a_manifest_that_was_read_does_not_change_with_the_next_step(folder, picture):
    folder.record(picture(index=1), "1.png")
    manifest = folder.manifest()
    folder.record(picture(index=2), "2.png")
    assert [step["index"] for step in manifest["steps"]] == [1]


# Reading


def write(path, content):
    path.mkdir(exist_ok=True)
    (path / MANIFEST_NAME).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_unknown_keys_of_a_manifest_are_not_changed(folder):
    path = write(folder.path, saved(folder) | {"mood": "fine"})
    assert read_manifest(path)["mood"] == "fine"


@pytest.mark.parametrize("found", ["safelight.run/2", "safelight.run/10", "something else", None, 1])
def test_a_newer_major_version_is_refused_with_a_clear_message(tmp_path, found):
    path = write(tmp_path, {"format": found})
    sentence = f"expected format {re.escape(RUN_FORMAT)}, found {found!r}; a newer run needs a newer Safelight"
    with pytest.raises(ManifestError, match=sentence):
        read_manifest(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "expected format"),
        (b"null", "expected format"),
        (b'"safelight.run/1"', "expected format"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, content, sentence):
    with pytest.raises(ManifestError, match=sentence):
        read_manifest(write(tmp_path, content))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    with (tmp_path / MANIFEST_NAME).open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    monkeypatch.setattr("safelight.preview.untrusted_json.json.loads", None)
    with pytest.raises(ManifestError, match="larger than 16,777,216 bytes"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("path", ["nowhere", "a_file", "a_folder"])
def test_a_missing_manifest_is_refused(tmp_path, path):
    (tmp_path / "a_file").touch()
    (tmp_path / "a_folder" / MANIFEST_NAME).mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"cannot be read: .*; expected the folder of a run"):
        read_manifest(tmp_path / path)


KILLED = """
import os, sys, threading
from pathlib import Path
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import recording
from safelight.preview.sinks.base import Sink
from safelight.preview.step import Step

class Killer(Sink):
    name = "killer"
    def open(self): pass
    def show(self, picture):
        if picture.index == 12:
            folder.save()
            os._exit(9)
    def close(self, state): pass

with recording(Path(sys.argv[1]), SPACES["sd1"], sinks=[Killer()]) as (pipeline, folder):
    for index in range(1, 21):
        pipeline.offer(Step(index=index, total=20, sigma=1.0, denoised=torch.zeros(1, 4, 8, 8)))
    threading.Event().wait(30)
"""


def test_a_killed_process_leaves_a_readable_manifest_that_lists_only_existing_files(tmp_path):
    path = tmp_path / "run"
    ended = subprocess.run([sys.executable, "-c", KILLED, path], timeout=100, check=False, cwd=tmp_path)
    assert ended.returncode == 9
    manifest = read_manifest(path)
    assert manifest["state"] == "running"
    listed = [name for step in manifest["steps"] for name in step["files"]]
    assert 3 <= len(listed) <= 12  # the encoders may still work on some files
    assert listed == [f"step_{index:04d}.png" for index in range(1, len(listed) + 1)]
    found = {path.name for path in path.iterdir()}
    assert {MANIFEST_NAME, "index.html", *listed} <= found
    # The encoders may have written more files while the manifest was saved.
    later = {f"step_{index:04d}.png" for index in range(len(listed) + 1, 13)}
    complete = {name for name in found if not name.endswith(".part")}
    assert complete - {MANIFEST_NAME, "index.html", *listed} <= later
    written = {name.rsplit(".", 2)[0].removeprefix(".") for name in found - complete}
    assert written <= {MANIFEST_NAME, "index.html", *later}


@pytest.mark.parametrize("failures", [1, 3, 4])
def test_the_final_state_is_written_again_if_a_write_fails(tmp_path, monkeypatch, failures):
    folder, pauses = RunFolder(tmp_path / "run", Run()), []
    folder.open()
    write, left = folder.write, [failures]

    def busy(name, content):
        if left[0]:
            left[0] -= 1
            raise PermissionError("another program reads it")
        write(name, content)

    monkeypatch.setattr(folder, "write", busy)
    monkeypatch.setattr("safelight.preview.sinks.run_folder.time.sleep", pauses.append)
    if failures > 3:
        with pytest.raises(PermissionError):
            folder.close("finished")
    else:
        folder.close("finished")
    assert pauses == [0.01, 0.02, 0.04][:failures]
    assert read_manifest(folder.path)["state"] == ("finished" if failures < 4 else "running")


def test_the_folder_of_a_run_without_steps_and_notes_is_removed(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "run_00001", Run())
    folder.open()
    folder.remove_if_empty()
    assert folder.path.is_dir(), "the run has not ended"
    folder.close("finished")
    folder.remove_if_empty()
    assert not folder.path.exists()


@pytest.mark.parametrize("kept", ["a step", "a note", "a file of the user"])
def test_the_folder_of_a_run_with_anything_to_read_stays(tmp_path, kept, picture):
    folder = RunFolder(tmp_path / "run_00001", Run())
    folder.open()
    if kept == "a step":
        folder.record(picture(1), "step_0001.png")
    elif kept == "a note":
        folder.run.note("the sampler failed")
    else:
        (folder.path / "mine.txt").write_text("mine")
    folder.close("finished")
    folder.remove_if_empty()
    assert (folder.path / MANIFEST_NAME).exists()
