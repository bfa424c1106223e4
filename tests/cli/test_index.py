"""`safelight index` writes a page with all runs of a folder, which opens without a server."""

import json
import re
import uuid

import pytest
from safelight.cli.main import main
from safelight.preview.html.library_page import LIBRARY_PAGE, write_library_page
from safelight.preview.run_library import RunLibrary


def write_run(folder, number=0, steps=3, **facts):
    folder.mkdir(parents=True)
    manifest = {
        "format": "safelight.run/1",
        "id": str(uuid.UUID(int=number + 1)),
        "state": "finished",
        "started": f"2026-01-{number + 1:02d}T00:00:00+00:00",
        "seconds": 1.0,
        "sampler": {"steps": steps, "seed": 7, "sigmas": [1.0] * 9, "prompt": "a lighthouse"},
        "steps": [{"index": i + 1, "sigma": 1.0, "at": 0.5, "files": [f"step_{i}.png"]} for i in range(steps)],
        "notes": ["a", "b", "c", "d"],
    } | facts
    (folder / "run.json").write_text(json.dumps(manifest))


def data_of(page):
    found = re.search(r'<script type="application/json" id="safelight">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_the_page_has_all_runs_with_their_steps(tmp_path, capsys):
    write_run(tmp_path / "a")
    write_run(tmp_path / "day" / "b", 1)
    (tmp_path / "a" / "marks.json").write_text('{"format": "safelight.marks/1", "star": true, "note": "mine"}')
    assert main(["index", str(tmp_path)]) == 0
    page = tmp_path / LIBRARY_PAGE
    assert capsys.readouterr().out == f"2 runs: {page}\n"
    data = data_of(page)
    newest, oldest = data["runs"]
    assert (data["folder"], newest["folder"], oldest["folder"]) == (tmp_path.name, "day/b", "a")
    assert (oldest["star"], oldest["note"], oldest["prompt"]) == (True, "mine", "a lighthouse")
    assert [step["files"] for step in newest["manifest"]["steps"]] == [["step_0.png"], ["step_1.png"], ["step_2.png"]]
    assert "sigmas" not in newest["manifest"]["sampler"]
    assert newest["manifest"]["notes"] == ["b", "c", "d"]


def test_what_a_run_says_stays_text_in_the_page(tmp_path):
    hostile = "</script><script>alert(1)</script><!--"
    write_run(tmp_path / "a", sampler={"steps": 1, "prompt": hostile}, space=hostile)
    page = write_library_page(RunLibrary(tmp_path))
    assert page.read_text().count("<script") == 3  # the texts, the runs, the viewer
    assert data_of(page)["runs"][0]["prompt"] == hostile


def test_with_very_many_steps_older_runs_have_only_their_newest_picture(tmp_path, monkeypatch):
    write_run(tmp_path / "old")
    write_run(tmp_path / "new", 1)
    monkeypatch.setattr("safelight.preview.html.library_page.MAX_MANIFESTS_BYTES", 900)
    newest, oldest = data_of(write_library_page(RunLibrary(tmp_path)))["runs"]
    assert (len(newest["manifest"]["steps"]), oldest["manifest"]["steps"]) == (
        3,
        [{"index": 3, "at": 0.5, "files": ["step_2.png"]}],
    )


def test_a_link_in_the_place_of_the_page_is_replaced_and_not_followed(tmp_path):
    root, outside = tmp_path / "runs", tmp_path / "outside.html"
    write_run(root / "a")
    outside.write_text("mine")
    (root / LIBRARY_PAGE).symlink_to(outside)
    write_library_page(RunLibrary(root))
    assert outside.read_text() == "mine"
    assert not (root / LIBRARY_PAGE).is_symlink()


@pytest.mark.parametrize(("name", "found"), [("empty", "no run"), ("nowhere", "no folder")])
def test_a_folder_without_runs_is_an_error(tmp_path, capsys, name, found):
    (tmp_path / "empty").mkdir()
    assert main(["index", str(tmp_path / name)]) == 2
    assert f"found {found}" in capsys.readouterr().err
