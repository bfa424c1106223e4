"""The files of a batch: a grid, a file for each picture, or only the first picture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.preview.images import grid
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.snapshot import Selection

HEIGHT, WIDTH = 5, 7


@pytest.fixture
def show_batch(folder, picture):
    """A function that saves one step of a batch; returns its pixels and the images that were written."""

    def show_batch(items, *, encoding=None, size=(HEIGHT, WIDTH), **options):
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

    return show_batch


@pytest.mark.parametrize(("items", "columns", "rows"), [(2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (7, 3, 3)])
def test_a_grid_shows_every_picture_in_reading_order(show_batch, folder, items, columns, rows):
    pixels, images = show_batch(items, batch="grid")
    assert list(images) == ["step_0007.png"]
    image = np.asarray(images["step_0007.png"])
    expected = np.full((rows * (HEIGHT + 1) - 1, columns * (WIDTH + 1) - 1, 3), grid.GRID_COLOR, np.uint8)
    for i in range(items):
        y, x = i // columns * (HEIGHT + 1), i % columns * (WIDTH + 1)
        expected[y : y + HEIGHT, x : x + WIDTH] = pixels[i]
    assert np.array_equal(image, expected)
    facts = folder.manifest()["picture"]
    assert (facts["width"], facts["height"], facts["items"]) == (image.shape[1], image.shape[0], 1)


def test_each_picture_of_a_grid_is_shrunk_and_enlarged_separately(show_batch, folder):
    encoding = ImageEncoding(enlarge="bicubic", max_side_px=50)
    _, images = show_batch(4, encoding=encoding, size=(64, 128), batch="grid")
    gap_px = 8
    assert images["step_0007.png"].size == (2 * 1024 + gap_px, 2 * 512 + gap_px)
    facts = folder.manifest()["picture"]
    assert (facts["shown_width"], facts["shown_height"]) == (2 * 1024 + gap_px, 2 * 512 + gap_px)
    assert (facts["width"], facts["height"]) == (2 * 128 + 1, 2 * 64 + 1)


def test_the_sides_of_a_grid_are_limited(show_batch, monkeypatch):
    monkeypatch.setattr(grid, "MAX_GRID_SIDE_PX", 400)
    _, images = show_batch(9, size=(300, 100), batch="grid")
    width, height = images["step_0007.png"].size
    assert (width <= 400, 380 <= height <= 400) == (True, True)
    assert width / height == pytest.approx(1 / 3, rel=0.05)


def test_the_limit_of_a_grid_does_not_apply_to_a_single_picture(show_batch, monkeypatch):
    monkeypatch.setattr(grid, "MAX_GRID_SIDE_PX", 4)
    pixels, images = show_batch(1, batch="grid")
    assert np.array_equal(np.asarray(images["step_0007.png"]), pixels[0])


@pytest.mark.parametrize("encoders", [0, 2])
def test_all_files_gives_a_file_for_each_item_in_order(show_batch, folder, encoders):
    pixels, images = show_batch(12, batch="all files", encoders=encoders, small_bytes=0)
    assert list(images) == [f"step_0007_item_{n:02d}.png" for n in range(1, 13)]
    for item, (expected, image) in enumerate(zip(pixels, images.values(), strict=True), 1):
        assert np.array_equal(np.asarray(image), expected)
        assert json.loads(image.text["safelight"])["item"] == item
    facts = folder.manifest()["picture"]
    assert (facts["width"], facts["height"], facts["items"], facts["frames"]) == (WIDTH, HEIGHT, 12, 1)


@pytest.mark.parametrize("batch", ["grid", "first", "all files"])
def test_a_single_picture_has_the_same_name_in_every_mode(show_batch, folder, batch):
    _, images = show_batch(1, batch=batch)
    assert list(images) == ["step_0007.png"]
    assert "item" not in json.loads(images["step_0007.png"].text["safelight"])
    assert folder.manifest()["picture"]["items"] == 1


def test_first_writes_only_the_first_picture(show_batch, folder):
    pixels, images = show_batch(3, batch="first")
    assert list(images) == ["step_0007.png"]
    assert np.array_equal(np.asarray(images["step_0007.png"]), pixels[0])
    assert folder.manifest()["picture"]["items"] == 1


def test_max_items_limits_the_files_of_a_large_batch(show_batch, folder):
    _, images = show_batch(64, batch="all files", max_items=16)
    assert len(images) == folder.manifest()["picture"]["items"] == 16
    _, images = show_batch(64, batch="all files")
    assert len(images) == folder.manifest()["picture"]["items"] == 64


def test_each_of_two_folders_of_a_run_records_its_own_files(tmp_path, pipeline, step):
    run = Run()
    live, saved = RunFolder(tmp_path / "live", run), RunFolder(tmp_path / "saved", run)
    sinks = (
        live,
        StepFiles(live, ImageEncoding(file_format="jpg"), batch="all files"),
        saved,
        StepFiles(saved, ImageEncoding(), batch="grid"),
    )
    with pipeline(*sinks, run=run, select=Selection(items=None)) as pipe:
        pipe.offer(step(1, total=1, denoised=torch.rand(3, 4, 2, 3)))
    assert live.manifest()["picture"]["items"] == 3
    assert live.manifest()["steps"][0]["files"] == [f"step_0001_item_0{n}.jpg" for n in (1, 2, 3)]
    assert saved.manifest()["picture"] | {"width": 7, "height": 5, "items": 1} == saved.manifest()["picture"]
    assert saved.manifest()["steps"][0]["files"] == ["step_0001.png"]
