"""The contact sheet shows the steps of a run in order, with captions."""

import numpy as np
import pytest
from PIL import Image, ImageFont
from safelight.preview.images.grid import GRID_COLOR
from safelight.preview.images.thumbnails import StepImage
from safelight.preview.sinks import contact_sheet
from safelight.preview.sinks.contact_sheet import (
    CAPTION_PX,
    FONT_PX,
    GAP_PX,
    TILE_PX,
    ContactSheet,
    caption,
    lay_out,
)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (64, 112), (4, 6), (600, 400)])
@pytest.mark.parametrize("total", [1, 2, 7, 20])
def test_a_sheet_shows_every_picture_in_its_aspect_ratio(folder, show_steps, total, height, width, images):
    show_steps(ContactSheet(folder), total, height=height, width=width)
    (sheet,) = images("sheet.png")
    tile = (round(TILE_PX * width / max(width, height)), round(TILE_PX * height / max(width, height)))
    cell = tile[0] + GAP_PX, tile[1] + CAPTION_PX + GAP_PX
    columns, rest = divmod(sheet.width - GAP_PX, cell[0])
    rows, rest_below = divmod(sheet.height - GAP_PX, cell[1])
    assert (rest, rest_below) == (0, 0)
    assert columns * (rows - 1) < total <= columns * rows
    for i in range(total):
        middle = GAP_PX + i % columns * cell[0] + tile[0] // 2, GAP_PX + i // columns * cell[1] + tile[1] // 2
        assert sheet.getpixel(middle) == ((i + 1) * 20 % 256,) * 3
    assert folder.manifest()["sheet"] == "sheet.png"


def test_each_picture_has_a_caption_below_it(folder, show_steps, images):
    show_steps(ContactSheet(folder), 3, height=64, width=64)
    (sheet,) = images("sheet.png")
    for column in range(3):
        x, y = GAP_PX + column * (TILE_PX + GAP_PX), GAP_PX + TILE_PX
        below = np.asarray(sheet.crop((x, y, x + TILE_PX, y + CAPTION_PX)))
        assert (below != GRID_COLOR).any()


@pytest.mark.parametrize(("announced", "reported", "expected"), [(7, 20, 7), (4, 4, 7), (None, 20, 20)])
def test_captions_count_to_the_step_that_the_sampler_ended_with(
    folder, picture, monkeypatch, announced, reported, expected
):
    laid_out = []
    monkeypatch.setattr(contact_sheet, "lay_out", lambda images: (laid_out.extend(images), Image.new("RGB", (1, 1)))[1])
    sheet = ContactSheet(folder)
    for index in range(1, 8):
        sheet.show(picture(index=index, total=reported))
    folder.run.sampler = {"steps": announced}
    sheet.close("finished")
    assert [caption(image) for image in laid_out] == [f"{index} / {expected}   sigma 0.5" for index in range(1, 8)]


def test_a_caption_contains_step_and_sigma():
    image = Image.new("RGB", (1, 1))
    assert caption(StepImage(7, 20, 0.4213, image)).startswith("7 / 20 ")
    assert caption(StepImage(7, 20, 0.4213, image)).endswith("0.421")
    assert caption(StepImage(7, 20, None, image)) == "7 / 20"


def test_the_font_has_all_letters_of_a_caption():
    """A missing letter is drawn as the box of a private character."""
    font = ImageFont.load_default(FONT_PX)
    box = bytes(font.getmask("\ue000"))
    for letter in set(caption(StepImage(7, 20, 4.2e-9, Image.new("RGB", (1, 1))))) - {" "}:
        assert bytes(font.getmask(letter)) != box, letter


def test_a_sheet_of_a_thousand_steps_leaves_out_steps_evenly_but_never_the_last(
    folder, show_steps, monkeypatch, images
):
    laid_out = []
    monkeypatch.setattr(
        "safelight.preview.sinks.contact_sheet.lay_out", lambda images: laid_out.extend(images) or lay_out(images)
    )
    show_steps(ContactSheet(folder), 1000)
    steps = [step_image.index for step_image in laid_out]
    assert 24 <= len(steps) <= 48
    assert (steps[0], steps[-1]) == (1, 1000)
    assert len(set(np.diff(steps[:-1]))) == 1
    assert max(images("sheet.png")[0].size) < 4000


def test_a_run_without_pictures_has_no_sheet(folder, show_steps):
    show_steps(ContactSheet(folder), 0)
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]
    assert folder.manifest()["sheet"] is None


def test_a_sheet_shows_all_pictures_of_a_batch(folder, picture, images):
    pixels = np.stack([np.full((1, 20, 30, 3), value, np.uint8) for value in (50, 100, 150, 200)])
    sheet = ContactSheet(folder)
    for index in (1, 2):
        sheet.show(picture(index=index, pixels=pixels - 20 * index, shown=(30, 20)))
    sheet.close("finished")
    (image,) = images("sheet.png")
    assert {30, 180} <= {color[0] for _, color in image.getcolors(100_000)}
