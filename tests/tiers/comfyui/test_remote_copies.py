"""The setting that copies saved runs to a store, in a real ComfyUI, with a store of the tests."""

import json
import time
import uuid
from pathlib import Path

import pytest

SETTING = "Safelight.Remote"
LIMIT_S = 60
FILES = {"write_intermediates": True, "filename_prefix": "kept/steps"}


@pytest.fixture
def copy_to(server):
    """Saves the address of the store, and removes it after the test."""

    def copy_to(address):
        assert server.post("/api/settings", {SETTING: address}).status == 200

    yield copy_to
    copy_to("")


@pytest.fixture
def stored(server):
    """A function that returns the files of the only folder in a place of the store, when the final record is there."""

    def stored(place) -> dict[str, bytes]:
        root = server.base / "user/labstore" / place
        end_s = time.monotonic() + LIMIT_S
        while True:
            for record in root.glob("*/run.json"):
                if json.loads(record.read_bytes())["state"] == "finished":
                    folder = record.parent
                    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
            assert time.monotonic() < end_s, server.log[-3000:]
            time.sleep(0.05)

    return stored


def saved_run(server, played) -> Path:
    """The folder of the run in ComfyUI's output folder."""
    run = played.named("safelight.run")[-1].data["run"]
    run_id = server.get(f"/safelight/runs/{run}").json()["host"]["prompt_id"]
    folders = [path.parent for path in server.output.rglob("run.json") if run_id in path.read_text()]
    assert len(folders) == 1
    return folders[0]


def test_a_saved_run_is_copied_file_by_file(server, wire, copy_to, stored):
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    copy_to(f"labstore://{bucket}/runs/")
    played = server.play(wire(preview=FILES))
    copies = stored(f"{bucket}/runs/kept")
    folder = saved_run(server, played)
    assert copies == {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    assert json.loads(copies["run.json"])["notes"] == []


def test_a_store_that_takes_nothing_costs_files_that_are_named(server, wire, copy_to):
    copy_to("labstore://full/runs")
    without = server.play(wire(preview=FILES, seed=77)).digest
    copy_to("")
    played = server.play(wire(preview=FILES, seed=77))
    assert played.digest == without
    end_s = time.monotonic() + LIMIT_S
    while "PermissionError: the store is full" not in server.log:
        assert time.monotonic() < end_s, server.log[-3000:]
        time.sleep(0.05)


def test_an_address_of_this_machine_or_with_a_password_is_refused(server, wire, copy_to, tmp_path):
    for address, reason in (
        (f"file://{tmp_path}", "expected the address of a store such as s3://bucket/runs, got file://"),
        ("sftp://me:hunter2@host/runs", "expected a sftp:// address without a password"),
    ):
        copy_to(address)
        folder = saved_run(server, server.play(wire(preview=FILES)))
        (note,) = json.loads((folder / "run.json").read_text())["notes"]
        assert note.startswith(f"the run is not copied: {SETTING}: {reason}")
    assert list(tmp_path.iterdir()) == []
    assert "hunter2" not in server.log


def test_a_store_whose_package_is_missing_says_how_to_install_it(server, wire, copy_to):
    copy_to("gdrive://bucket/runs")
    folder = saved_run(server, server.play(wire(preview=FILES)))
    end_s = time.monotonic() + LIMIT_S
    while not (notes := json.loads((folder / "run.json").read_text())["notes"]):
        assert time.monotonic() < end_s, server.log[-3000:]
        time.sleep(0.05)
    assert "gdrive:// addresses need a package that is not installed" in notes[0]
    assert "pip install fsspec s3fs" in notes[0]
