"""A run read back from its folder: what there is, and nothing that only its manifest says."""

import json

import pytest
import torch
from PIL import Image
from safelight.errors import GoneError, ManifestError
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.run import Run
from safelight.preview.saved_run import SavedRun, spread_evenly
from safelight.preview.sinks.latent_files import LatentFiles, Need, Room
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.step import Step


@pytest.fixture
def folder(tmp_path, pipeline):
    """A run of seven steps with pictures, with the latents of steps 1, 4 and 7."""
    run = Run(space="sd1", sampler={"steps": 7, "name": "euler", "seed": 3})
    folder = RunFolder(tmp_path / "run", run)
    latents = LatentFiles(folder, Need(3, 1), lambda: Room(1000, "the disk"))
    files = StepFiles(folder, ImageEncoding())
    with pipeline(folder, files, latents, run=run, every={latents: 3}) as worker:
        for index in range(1, 8):
            values = torch.full((1, 4, 2, 3), index / 10)
            worker.offer(Step(index=index, total=7, sigma=1 / index, denoised=values, noisy=values + 1))
    return folder.path


def edit(folder, **facts):
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | facts))


def edit_first(folder, **facts):
    steps = json.loads((folder / "run.json").read_text("utf-8"))["steps"]
    edit(folder, steps=[steps[0] | facts, *steps[1:]])


def test_its_pictures_are_those_that_were_written(folder):
    found = SavedRun.open(folder).pictures(100)
    assert [(one.index, one.total, one.sigma) for one in found] == [(i, 7, 1 / i) for i in range(1, 8)]
    for one in found:
        with Image.open(folder / f"step_{one.index:04d}.png") as written:
            assert one.image.tobytes() == written.convert("RGB").tobytes()


def test_of_many_pictures_some_are_taken_evenly_the_last_one_always(folder):
    assert [one.index for one in SavedRun.open(folder).pictures(3)] == [1, 4, 7]
    assert [one.index for one in SavedRun.open(folder).pictures(1)] == [7]


@pytest.mark.parametrize("count", [1, 2, 5, 48, 49, 1000])
@pytest.mark.parametrize("most", [1, 2, 7, 48])
def test_evenly_takes_as_many_as_it_may_in_order_each_once(count, most):
    taken = spread_evenly(range(count), most)
    assert len(taken) == min(count, most)
    assert taken == sorted(set(taken))
    assert taken[-1] == count - 1


def test_latents_are_those_of_the_step_or_of_the_last(folder):
    saved = SavedRun.open(folder)
    assert saved.latents(4).noisy.mean() == pytest.approx(1.4)
    assert saved.latents().index == 7


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (2, "no latents were kept of step 2; there are latents of steps 1, 4, 7"),
        (9, "this run has no step 9; there are latents of steps 1, 4, 7"),
    ],
)
def test_a_step_without_latents_is_told_with_those_that_have_some(folder, step, expected):
    with pytest.raises(GoneError, match=expected):
        SavedRun.open(folder).latents(step)


def test_the_summary_says_what_it_was(folder):
    told = SavedRun.open(folder).summary()
    assert told.splitlines() == [
        "run: finished, 7 steps, name euler, seed 3",
        "space sd1, decoder first-channels",
        "pictures of steps 1-7",
        "latents of steps 1, 4, 7",
    ]


@pytest.mark.parametrize(
    "name", ["../other.png", "a/b.png", "/etc/passwd", "..", ".hidden", "a\\b.png", "", 7, None, "a\n"]
)
def test_a_name_that_is_not_that_of_a_file_in_the_folder_is_refused(folder, name):
    edit_first(folder, files=[name])
    with pytest.raises(ManifestError, match="is not the name of a file in the folder"):
        SavedRun.open(folder)


def test_so_is_such_a_name_of_latents(folder):
    edit_first(folder, latent="../step_0001.safetensors")
    with pytest.raises(ManifestError, match="is not the name of a file in the folder"):
        SavedRun.open(folder)


@pytest.mark.parametrize("name", ["step_0001.png", "step_0001.safetensors"])
def test_a_link_that_leads_out_is_not_followed(folder, tmp_path, name):
    (folder / name).replace(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    saved = SavedRun.open(folder)
    with pytest.raises(ManifestError, match="leads out of the folder"):
        saved.pictures(10) if name.endswith("png") else saved.latents(1)


@pytest.mark.parametrize(
    "facts",
    [
        *({"steps": None}, {"steps": [1]}, {"steps": [{"index": "1", "files": []}]}, {"steps": [{"index": 1}]}),
        *({"steps": [{"index": True, "files": []}]}, {"id": None}, {"id": 3}, {"state": []}),
    ],
    ids=str,
)
def test_a_manifest_that_does_not_say_what_a_manifest_says_is_refused(folder, facts):
    edit(folder, **facts)
    with pytest.raises(ManifestError, match=r"run\.json: expected"):
        SavedRun.open(folder)


@pytest.mark.parametrize(
    "facts",
    [{"sampler": 3}, {"decoder": []}, {"notes": {}}, {"space": 4}, {"sampler": {"steps": "many", "name": []}}],
    ids=str,
)
def test_what_is_only_told_to_people_may_be_anything(folder, facts):
    edit(folder, **facts)
    assert SavedRun.open(folder).summary()


def test_a_missing_picture_is_told_by_name(folder):
    (folder / "step_0003.png").unlink()
    with pytest.raises(GoneError, match=r"step_0003\.png is listed in run\.json and missing in run"):
        SavedRun.open(folder).pictures(10)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_file_that_is_no_picture_is_told_by_name(folder, content):
    (folder / "step_0003.png").write_bytes(content)
    with pytest.raises(ManifestError, match=r"step_0003\.png: expected a picture"):
        SavedRun.open(folder).pictures(10)


def test_a_picture_cut_in_half_is_told_by_name(folder):
    path = folder / "step_0003.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ManifestError, match=r"step_0003\.png: expected a picture"):
        SavedRun.open(folder).pictures(10)


def test_a_picture_that_would_fill_the_memory_is_refused(folder, monkeypatch):
    monkeypatch.setattr("safelight.preview.saved_run.MAX_PICTURE_PIXELS", 5)
    with pytest.raises(ManifestError, match="too large for the picture of a step"):
        SavedRun.open(folder).pictures(10)
