"""The library of saved runs: which folders are searched, and how a run is summarized for the viewer."""

import json
import os
import uuid
from datetime import datetime, timezone

import pytest
from safelight.preview.manifest import compose
from safelight.preview.run import Run
from safelight.preview.run_library import MAX_FOLDER_DEPTH, RunLibrary, find_runs
from safelight.preview.run_summary import run_summary

STARTED = datetime(2026, 1, 1, tzinfo=timezone.utc)


def write_run(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"format": "safelight.run/1"}))
    return folder


def test_runs_are_found_on_upper_levels_first_and_by_name(tmp_path):
    expected = [tmp_path, tmp_path / "c", tmp_path / "a" / "x", tmp_path / "b" / "w"]
    for folder in reversed(expected):
        write_run(folder)
    assert list(find_runs(tmp_path)) == expected


def test_only_a_limited_number_of_levels_is_searched(tmp_path):
    deepest = write_run(tmp_path.joinpath(*"x" * MAX_FOLDER_DEPTH))
    assert list(find_runs(tmp_path)) == [deepest]
    assert list(find_runs(deepest.parent)) == [deepest]
    write_run(deepest / "x")
    (deepest / "run.json").unlink()
    assert list(find_runs(tmp_path)) == []


def test_folders_inside_a_run_are_searched_only_if_the_user_names_the_run(tmp_path):
    run = write_run(tmp_path / "run")
    inside = write_run(run / "inside")
    assert list(find_runs(tmp_path)) == [run]
    assert list(find_runs(run)) == [run, inside]


def test_hidden_folders_and_links_are_skipped(tmp_path):
    run = write_run(tmp_path / "real" / "run")
    write_run(tmp_path / "real" / ".hidden")
    (tmp_path / "real" / "link").symlink_to(write_run(tmp_path / "elsewhere"))
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    linked = tmp_path / "real" / "linked"
    linked.mkdir()
    (linked / "run.json").symlink_to(run / "run.json")
    (tmp_path / "real" / "folder" / "run.json").mkdir(parents=True)
    assert list(find_runs(tmp_path / "real")) == [run]
    hidden = tmp_path / "real" / ".hidden"
    assert list(find_runs(hidden)) == [hidden], "a hidden folder that the user names is searched"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_skipped(tmp_path):
    run = write_run(tmp_path / "run")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    assert list(find_runs(tmp_path)) == [run]


def test_a_folder_that_does_not_exist_has_no_runs(tmp_path):
    assert list(find_runs(tmp_path / "nowhere")) == []


# The library


def test_one_run_is_read_again_only_if_it_changed(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    library = RunLibrary(tmp_path)
    (folder / "run.json").write_text(json.dumps(composed(step(1))))
    run_id = str(uuid.UUID(int=1))
    first = library.run(run_id)
    assert first.id == run_id
    searches = []
    monkeypatch.setattr(
        "safelight.preview.run_library.find_runs", lambda root, **more: searches.append(root) or find_runs(root, **more)
    )
    assert library.run(run_id) is first
    assert searches == []
    (folder / "run.json").write_text(json.dumps(composed(step(1), step(2))))
    assert len(library.run(run_id).manifest["steps"]) == 2
    (folder / "run.json").unlink()
    assert library.run(run_id) is None
    assert len(searches) == 2


# The summary


def composed(*steps, seconds=2.5, **facts):
    run = Run(started=STARTED, space="sd1", id=str(uuid.UUID(int=1)), prompt="words", **facts)
    return compose(run, "running", seconds, list(steps), {})


def step(index, *files):
    return {"index": index, "sigma": 1.0, "at": index / 4, "files": list(files), "latent": None, "decode_ms": 1.0}


def test_a_summary_contains_what_a_viewer_shows_before_it_loads_the_manifest():
    sampler = {"steps": 4, "seed": 7, "cfg": 2.0, "name": "euler", "scheduler": "normal"}
    decoder, picture = {"name": "affine", "kind": "affine", "scale": 1, "source": ""}, {"width": 8, "height": 8}
    steps = step(1, "1.jpg"), step(2, "2.jpg", "2b.jpg"), step(3)
    facts = {"sampler": sampler | {"sigmas": [1.0]}, "decoder": decoder, "picture": picture}
    assert run_summary(composed(*steps, **facts), "7") == {
        "id": str(uuid.UUID(int=1)),
        "version": "7",
        "state": "running",
        "started": "2026-01-01T00:00:00.000+00:00",
        "written": 1_767_225_602_500,
        "space": "sd1",
        "decoder": decoder,
        "picture": picture,
        "sampler": sampler,
        "steps": 2,
        "index": 2,
        "total": 4,
        "thumbnail": "2.jpg",
        "at": 0.5,
    }


def test_unknown_values_are_null_in_a_summary():
    summary = run_summary(composed(step(1)))
    assert [key for key, value in summary.items() if value is None] == [
        *("decoder", "picture", "version", "index", "total", "thumbnail", "at")
    ]
    assert summary["steps"] == 0
    assert set(summary["sampler"].values()) == {None}


@pytest.mark.parametrize("facts", [{"seconds": 1e300}, {"seconds": -1.0}, {"seconds": None}, {"started": "yesterday"}])
def test_an_impossible_time_is_null_in_a_summary(facts):
    assert run_summary(composed() | facts)["written"] is None
