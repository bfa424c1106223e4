"""A saved run gives the pictures and latents in its folder; files outside it are never opened."""

import json
import struct
import tracemalloc

import pytest
import torch
from PIL import Image
from safelight.decoders.files.contained_file import HAS_FOLDER_HANDLES, read_below
from safelight.errors import GoneError, LatentsError, ManifestError
from safelight.preview import saved_run
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


def test_pictures_equal_the_saved_files(folder):
    found = SavedRun.open(folder).pictures(100)
    assert [(picture.index, picture.total, picture.sigma) for picture in found] == [(i, 7, 1 / i) for i in range(1, 8)]
    for picture in found:
        with Image.open(folder / f"step_{picture.index:04d}.png") as written:
            assert picture.image.tobytes() == written.convert("RGB").tobytes()


def test_of_many_pictures_some_are_read_evenly_and_always_the_last(folder):
    assert [picture.index for picture in SavedRun.open(folder).pictures(3)] == [1, 4, 7]
    assert [picture.index for picture in SavedRun.open(folder).pictures(1)] == [7]


@pytest.mark.parametrize("count", [1, 2, 5, 48, 49, 1000])
@pytest.mark.parametrize("most", [1, 2, 7, 48])
def test_items_are_spread_evenly_in_order_each_once(count, most):
    taken = spread_evenly(range(count), most)
    assert len(taken) == min(count, most)
    assert taken == sorted(set(taken))
    assert taken[-1] == count - 1


def test_latents_of_a_step_or_of_the_last_one_are_read(folder):
    saved = SavedRun.open(folder)
    assert saved.latents(4).noisy.mean() == pytest.approx(1.4)
    assert saved.latents().index == 7


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (2, "no latents were saved of step 2; there are latents of steps 1, 4, 7"),
        (9, "this run has no step 9; there are latents of steps 1, 4, 7"),
    ],
)
def test_an_error_for_a_step_without_latents_lists_the_steps_that_have_some(folder, step, expected):
    with pytest.raises(GoneError, match=expected):
        SavedRun.open(folder).latents(step)


def test_the_summary_lists_settings_pictures_and_latents(folder):
    assert SavedRun.open(folder).summary().splitlines() == [
        "run: finished, 7 steps, name euler, seed 3",
        "space sd1, decoder first-channels",
        "pictures of steps 1-7",
        "latents of steps 1, 4, 7",
    ]


def test_the_summary_names_the_model_and_its_loras(folder):
    loras = [{"name": "ink.safetensors", "weight": 0.8}, {"name": "lcm.safetensors", "weight": None}, 7, {"name": 7}]
    edit(folder, sampler={"model": {"name": "xl/base.safetensors", "hash": None}, "loras": loras})
    assert (
        "model xl/base.safetensors, LoRA ink.safetensors 0.8, LoRA lcm.safetensors" in SavedRun.open(folder).summary()
    )


@pytest.mark.parametrize("model", [None, 7, "a", [], {}, {"name": 7}])
def test_a_model_without_a_name_is_not_in_the_summary(folder, model):
    edit(folder, sampler={"model": model, "loras": model})
    assert "model" not in SavedRun.open(folder).summary()


@pytest.mark.parametrize(
    "name", ["../other.png", "a/b.png", "/etc/passwd", "..", ".hidden", "a\\b.png", "", 7, None, "a\n"]
)
def test_a_name_of_a_file_outside_the_folder_is_refused(folder, name):
    edit_first(folder, files=[name])
    with pytest.raises(ManifestError, match="is not the name of a file in the folder"):
        SavedRun.open(folder)


def test_latents_outside_the_folder_are_refused(folder):
    edit_first(folder, latent="../step_0001.safetensors")
    with pytest.raises(ManifestError, match="is not the name of a file in the folder"):
        SavedRun.open(folder)


@pytest.mark.parametrize("name", ["step_0001.png", "step_0001.safetensors"])
def test_a_link_that_leads_out_is_not_followed(folder, tmp_path, name):
    (folder / name).replace(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    saved = SavedRun.open(folder)
    with pytest.raises((ManifestError, LatentsError), match=r"got a link|step_0001.png: is a link"):
        saved.pictures(10) if name.endswith("png") else saved.latents(1)


def test_latents_that_are_a_hole_on_the_disk_are_not_read(folder):
    with (folder / "step_0001.safetensors").open("wb") as file:
        file.write((2).to_bytes(8, "little") + b"{}")
        file.truncate(1 << 30)
    saved = SavedRun.open(folder)
    tracemalloc.start()
    try:
        with pytest.raises(LatentsError, match="its header describes 0 bytes of values"):
            saved.latents(1)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "facts",
    [
        *({"steps": None}, {"steps": [1]}, {"steps": [{"index": "1", "files": []}]}, {"steps": [{"index": 1}]}),
        *({"steps": [{"index": True, "files": []}]}, {"state": None}, {"state": []}),
    ],
    ids=str,
)
def test_a_manifest_without_state_steps_indices_or_files_is_refused(folder, facts):
    edit(folder, **facts)
    with pytest.raises(ManifestError, match=r"run\.json: expected"):
        SavedRun.open(folder)


@pytest.mark.parametrize(
    "facts",
    [
        *({"sampler": 3}, {"decoder": []}, {"notes": {}}, {"space": 4}, {"sampler": {"steps": "many", "name": []}}),
        *({"id": None}, {"id": 3}, {"started": 5}, {"state": "later"}),
    ],
    ids=str,
)
def test_a_wrong_value_that_is_only_shown_does_not_cost_the_run(folder, facts):
    edit(folder, **facts)
    saved = SavedRun.open(folder)
    assert saved.summary()
    assert (len(saved.pictures(10)), saved.total) == (7, 7)


@pytest.mark.parametrize("run_id", [None, 3, "another"])
def test_latents_are_read_only_with_the_id_of_their_run(folder, run_id):
    edit(folder, id=run_id)
    with pytest.raises(LatentsError, match="expected latents of run"):
        SavedRun.open(folder).latents()


def test_an_error_for_a_run_without_latents_says_how_to_save_them(folder):
    steps = json.loads((folder / "run.json").read_text("utf-8"))["steps"]
    edit(folder, steps=[step | {"latent": None} for step in steps])
    with pytest.raises(GoneError, match="no latents were saved of this run; switch on keep_latents"):
        SavedRun.open(folder).latents()


def test_a_run_without_pictures_has_none(folder):
    steps = json.loads((folder / "run.json").read_text("utf-8"))["steps"]
    edit(folder, steps=[step | {"files": []} for step in steps])
    saved = SavedRun.open(folder)
    assert saved.pictures(10) == []
    assert saved.sheet() is None
    assert "no pictures" in saved.summary()


def test_an_error_names_a_missing_picture(folder):
    (folder / "step_0003.png").unlink()
    with pytest.raises(GoneError, match=r"step_0003\.png is listed in run\.json and missing in run"):
        SavedRun.open(folder).pictures(10)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_an_error_names_a_file_that_is_no_picture(folder, content):
    (folder / "step_0003.png").write_bytes(content)
    with pytest.raises(ManifestError, match=r"step_0003\.png: expected a picture"):
        SavedRun.open(folder).pictures(10)


def test_an_error_names_a_truncated_picture(folder):
    path = folder / "step_0003.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ManifestError, match=r"step_0003\.png: expected a picture"):
        SavedRun.open(folder).pictures(10)


def test_a_picture_that_is_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr("safelight.preview.saved_run.MAX_PICTURE_PIXELS", 5)
    with pytest.raises(ManifestError, match="too large for the picture of a step"):
        SavedRun.open(folder).pictures(10)


def test_a_file_that_many_steps_name_is_read_once(folder, monkeypatch):
    steps = json.loads((folder / "run.json").read_text("utf-8"))["steps"]
    edit(folder, steps=[{**step, "files": ["step_0001.png"]} for step in steps])
    saved, reads = SavedRun.open(folder), []
    monkeypatch.setattr(saved_run, "read_below", lambda *args: reads.append(args[1]) or read_below(*args))
    pictures = saved.pictures(100)
    assert [str(name) for name in reads] == ["step_0001.png"]
    assert len(pictures) == len(steps)
    assert len({id(picture.image) for picture in pictures}) == 1


def test_a_picture_over_the_limit_is_refused_before_its_pixels_are_decoded(folder, monkeypatch):
    with Image.new("1", (20_000, 20_000)) as huge:
        huge.save(folder / "step_0001.png")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("the pixels were decoded"))
    with pytest.raises(ManifestError, match=r"20000x20000 is too large|DecompressionBomb"):
        SavedRun.open(folder).pictures(100)


@pytest.mark.parametrize("error", [IndexError, KeyError, AttributeError, RecursionError, struct.error])
def test_any_exception_of_the_image_library_is_an_error_that_names_the_file(folder, monkeypatch, error):
    def broken(*_, **__):
        raise error("inside the library")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(ManifestError, match=r"step_0001\.png: expected a picture: .*inside the library"):
        SavedRun.open(folder).pictures(100)


@pytest.mark.skipif(not HAS_FOLDER_HANDLES, reason="this system opens files by their path only")
def test_a_run_whose_folder_became_a_link_is_not_followed(folder, tmp_path):
    """Not for its manifest, its latents or its pictures, at whatever level the link is."""
    root, elsewhere = tmp_path / "output", tmp_path / "elsewhere"
    (root / "a").mkdir(parents=True)
    run = folder.rename(root / "a" / "run")
    saved = SavedRun.open(run, root)
    assert saved.pictures(9)
    assert saved.latents().index == 7
    for moved in (run, run.parent):
        moved.rename(elsewhere)
        moved.symlink_to(elsewhere, target_is_directory=True)
        for read in (lambda: SavedRun.open(run, root), lambda: saved.pictures(9), saved.latents):
            with pytest.raises((ManifestError, LatentsError)):
                read()
        moved.unlink()
        elsewhere.rename(moved)
    assert SavedRun.open(run, root).latents().index == 7
