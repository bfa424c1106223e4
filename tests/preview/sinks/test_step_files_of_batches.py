"""What becomes of a batch: side by side, each by itself, or the first only; opened with Pillow."""

import json

import numpy as np
import pytest
from PIL import Image
from safelight.preview.images import grid
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles

HEIGHT, WIDTH = 5, 7


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", Run(space="sd1"))
    folder.open()
    return folder


@pytest.fixture
def shown(folder, picture):
    """Shows one step of a batch of so many pictures; gives their pixels and the images that were written."""

    def show(items, *, encoding=None, size=(HEIGHT, WIDTH), **options):
        pixels = np.random.default_rng(items).integers(0, 256, (items, 1, *size, 3), np.uint8)
        files = StepFiles(folder, encoding or ImageEncoding(), **options)
        files.open()
        files.show(picture(index=7, pixels=pixels, shown=(size[1] * 8, size[0] * 8)))
        files.close("finished")
        files.close("finished")
        [step] = folder.manifest()["steps"]
        images = {}
        for name in step["files"]:
            with Image.open(folder.path / name) as image:
                image.load()
                images[name] = image
        return pixels[:, 0], images

    return show


@pytest.mark.parametrize(("items", "columns", "rows"), [(2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (7, 3, 3)])
def test_a_grid_holds_every_picture_in_reading_order(shown, folder, items, columns, rows):
    pixels, images = shown(items, batch="grid")
    assert list(images) == ["step_0007.png"]
    whole = np.asarray(images["step_0007.png"])
    expected = np.full((rows * (HEIGHT + 1) - 1, columns * (WIDTH + 1) - 1, 3), grid.GRID_COLOR, np.uint8)
    for i in range(items):
        y, x = i // columns * (HEIGHT + 1), i % columns * (WIDTH + 1)
        expected[y : y + HEIGHT, x : x + WIDTH] = pixels[i]
    assert np.array_equal(whole, expected)
    told = folder.manifest()["picture"]
    assert (told["width"], told["height"], told["items"]) == (whole.shape[1], whole.shape[0], 1)


def test_the_pictures_of_a_grid_are_made_smaller_and_enlarged_each_by_itself(shown, folder):
    encoding = ImageEncoding(enlarge="bicubic", max_side_px=50)
    _, images = shown(4, encoding=encoding, size=(64, 128), batch="grid")
    gap_px = 8
    assert images["step_0007.png"].size == (2 * 1024 + gap_px, 2 * 512 + gap_px)
    told = folder.manifest()["picture"]
    assert (told["shown_width"], told["shown_height"]) == (2 * 1024 + gap_px, 2 * 512 + gap_px)
    assert (told["width"], told["height"]) == (2 * 128 + 1, 2 * 64 + 1)


def test_a_grid_is_no_larger_than_programs_can_open(shown, monkeypatch):
    monkeypatch.setattr(grid, "MAX_GRID_SIDE_PX", 400)
    _, images = shown(9, size=(300, 100), batch="grid")
    width, height = images["step_0007.png"].size
    assert (width <= 400, 380 <= height <= 400) == (True, True)
    assert width / height == pytest.approx(1 / 3, rel=0.05)


def test_a_single_picture_has_no_such_limit(shown, monkeypatch):
    monkeypatch.setattr(grid, "MAX_GRID_SIDE_PX", 4)
    pixels, images = shown(1, batch="grid")
    assert np.array_equal(np.asarray(images["step_0007.png"]), pixels[0])


@pytest.mark.parametrize("encoders", [0, 2])
def test_all_files_are_one_for_each_item_and_listed_in_their_order(shown, folder, encoders):
    pixels, images = shown(12, batch="all files", encoders=encoders, small_bytes=0)
    assert list(images) == [f"step_0007_item_{n:02d}.png" for n in range(1, 13)]
    for item, (one, image) in enumerate(zip(pixels, images.values(), strict=True), 1):
        assert np.array_equal(np.asarray(image), one)
        assert json.loads(image.text["safelight"])["item"] == item
    told = folder.manifest()["picture"]
    assert (told["width"], told["height"], told["items"], told["frames"]) == (WIDTH, HEIGHT, 12, 1)


@pytest.mark.parametrize("batch", ["grid", "first", "all files"])
def test_one_picture_has_the_name_it_always_had(shown, folder, batch):
    _, images = shown(1, batch=batch)
    assert list(images) == ["step_0007.png"]
    assert "item" not in json.loads(images["step_0007.png"].text["safelight"])
    assert folder.manifest()["picture"]["items"] == 1


def test_the_first_is_only_the_first(shown, folder):
    pixels, images = shown(3, batch="first")
    assert list(images) == ["step_0007.png"]
    assert np.array_equal(np.asarray(images["step_0007.png"]), pixels[0])
    assert folder.manifest()["picture"]["items"] == 1


def test_a_screen_has_so_many_of_a_large_batch_and_all_files_are_all(shown, folder):
    _, images = shown(64, batch="all files", max_items=16)
    assert len(images) == folder.manifest()["picture"]["items"] == 16
    _, images = shown(64, batch="all files")
    assert len(images) == folder.manifest()["picture"]["items"] == 64


def test_two_folders_of_one_run_each_say_what_is_in_them(tmp_path, pipeline, step):
    import torch
    from safelight.preview.snapshot import Selection

    run = Run()
    live, kept = RunFolder(tmp_path / "live", run), RunFolder(tmp_path / "kept", run)
    sinks = (
        live,
        StepFiles(live, ImageEncoding(file_format="jpg"), batch="all files"),
        kept,
        StepFiles(kept, ImageEncoding(), batch="grid"),
    )
    with pipeline(*sinks, run=run, select=Selection(items=None)) as pipe:
        pipe.offer(step(1, total=1, denoised=torch.rand(3, 4, 2, 3)))
    assert live.manifest()["picture"]["items"] == 3
    assert live.manifest()["steps"][0]["files"] == [f"step_0001_item_0{n}.jpg" for n in (1, 2, 3)]
    assert kept.manifest()["picture"] | {"width": 7, "height": 5, "items": 1} == kept.manifest()["picture"]
    assert kept.manifest()["steps"][0]["files"] == ["step_0001.png"]
