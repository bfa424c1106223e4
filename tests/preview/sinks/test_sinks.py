"""What the sinks leave on disk, in memory or on a screen, opened with Pillow."""

import io
import json
import shutil
from unittest.mock import ANY

import numpy as np
import pytest
from PIL import Image, ImageSequence
from safelight.errors import SinkError
from safelight.preview.images.animated import Pace, expect_encoder
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.images.thumbnails import StepImage, Thumbnails
from safelight.preview.run import Run
from safelight.preview.sinks.animation import Animation
from safelight.preview.sinks.contact_sheet import (
    BACKGROUND,
    CAPTION_PX,
    GAP_PX,
    TILE_PX,
    ContactSheet,
    caption,
    lay_out,
)
from safelight.preview.sinks.in_memory import InMemory
from safelight.preview.sinks.live_view import LiveView
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", Run(space="sd1"))
    folder.open()
    return folder


@pytest.fixture
def show(picture):
    """Shows a sink so many steps and closes it."""

    def show(sink, total, **fields):
        sink.open()
        for index in range(1, total + 1):
            sink.show(picture(index=index, total=total, **fields))
        sink.close("finished")

    return show


def images(folder, name):
    with Image.open(folder.path / name) as image:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]


# Files


@pytest.mark.parametrize("file_format", ["png", "webp", "jpg"])
def test_files_are_named_by_sampler_step_with_four_digits_or_more(folder, picture, file_format):
    files = StepFiles(folder, ImageEncoding(file_format=file_format))
    files.open()
    for index in (1, 20, 999, 10000):
        files.show(picture(index=index, total=10000))
    expected = [f"step_{number}.{file_format}" for number in ("0001", "0020", "0999", "10000")]
    assert [step["files"] for step in folder.manifest()["steps"]] == [[name] for name in expected]
    assert {path.name for path in folder.path.iterdir()} == {"run.json", *expected}


def test_a_file_holds_the_first_picture_and_its_facts(folder, picture):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 4, 6, 3), np.uint8)
    files = StepFiles(folder, ImageEncoding(), texts=lambda: {"prompt": "{}"})
    files.open()
    files.show(picture(index=3, total=9, sigma=0.25, show="noisy", pixels=pixels))
    with Image.open(folder.path / "step_0003.png") as image:
        assert np.array_equal(np.asarray(image), pixels[0, 0])
        assert image.text["prompt"] == "{}"
        assert json.loads(image.text["safelight"]) == {
            "run": folder.run.id,
            "step": 3,
            "steps": 9,
            "sigma": 0.25,
            "show": "noisy",
            "space": "sd1",
            "decoder": "a-decoder",
        }


def test_facts_and_texts_can_be_left_out(folder, show):
    show(StepFiles(folder, ImageEncoding(), facts=False), 1)
    with Image.open(folder.path / "step_0001.png") as image:
        assert image.text == {}


def test_texts_are_asked_for_once_and_not_before_opening(folder, show):
    asked = []
    files = StepFiles(folder, ImageEncoding(), texts=lambda: asked.append(1) or {})
    assert asked == []
    show(files, 3)
    assert asked == [1]


def test_a_step_is_listed_only_when_its_file_is_there(folder, picture, monkeypatch):
    files = StepFiles(folder, ImageEncoding())
    files.open()

    def no_space(name, content):
        raise OSError("No space left on device")

    monkeypatch.setattr(folder, "write", no_space)
    with pytest.raises(OSError, match="No space left"):
        files.show(picture())
    assert folder.files() == set()


# Sheet


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (64, 112), (4, 6), (600, 400)])
@pytest.mark.parametrize("total", [1, 2, 7, 20])
def test_a_sheet_holds_every_picture_at_its_aspect(folder, show, total, height, width):
    show(ContactSheet(folder), total, height=height, width=width)
    (sheet,) = images(folder, "sheet.png")
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


def test_below_each_picture_there_is_a_caption(folder, show):
    show(ContactSheet(folder), 3, height=64, width=64)
    (sheet,) = images(folder, "sheet.png")
    for column in range(3):
        x, y = GAP_PX + column * (TILE_PX + GAP_PX), GAP_PX + TILE_PX
        below = np.asarray(sheet.crop((x, y, x + TILE_PX, y + CAPTION_PX)))
        assert (below != BACKGROUND).any()


def test_a_caption_says_step_and_sigma():
    image = Image.new("RGB", (1, 1))
    assert caption(StepImage(7, 20, 0.4213, image)).startswith("7 / 20 ")
    assert caption(StepImage(7, 20, 0.4213, image)).endswith("0.421")
    assert caption(StepImage(7, 20, None, image)) == "7 / 20"


def test_captions_are_made_of_letters_that_the_font_has():
    """A letter it lacks is drawn as the box that stands for a private character."""
    from PIL import ImageFont
    from safelight.preview.sinks.contact_sheet import FONT_PX

    font = ImageFont.load_default(FONT_PX)
    box = bytes(font.getmask("\ue000"))
    for letter in set(caption(StepImage(7, 20, 4.2e-9, Image.new("RGB", (1, 1))))) - {" "}:
        assert bytes(font.getmask(letter)) != box, letter


def test_a_sheet_of_a_thousand_steps_is_thinned_and_ends_with_the_last(folder, show, monkeypatch):
    laid_out = []
    monkeypatch.setattr(
        "safelight.preview.sinks.contact_sheet.lay_out", lambda kept: laid_out.extend(kept) or lay_out(kept)
    )
    show(ContactSheet(folder, limit=48), 1000)
    steps = [one.index for one in laid_out]
    assert 24 <= len(steps) <= 48
    assert (steps[0], steps[-1]) == (1, 1000)
    assert len(set(np.diff(steps[:-1]))) == 1
    assert max(images(folder, "sheet.png")[0].size) < 4000


def test_a_run_without_pictures_has_no_sheet_and_no_animation(folder, show):
    show(ContactSheet(folder), 0)
    show(Animation(folder), 0)
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]
    assert (folder.manifest()["sheet"], folder.manifest()["animation"]) == (None, None)


# Gathering


@pytest.mark.parametrize("limit", [2, 3, 8, 48])
@pytest.mark.parametrize("total", [0, 1, 2, 7, 8, 9, 47, 48, 49, 96, 97, 1000])
def test_a_gathering_keeps_as_many_as_it_may_evenly_with_the_first_and_the_last(picture, limit, total):
    gathering = Thumbnails(limit, 4)
    for index in range(1, total + 1):
        gathering.add(picture(index=index, total=total))
        assert len(gathering.all()) <= limit
    steps = [kept.index for kept in gathering.all()]
    if total <= limit:
        assert steps == list(range(1, total + 1))
    else:
        assert len(steps) > limit / 2
        assert (steps[0], steps[-1]) == (1, total)
        assert len(set(np.diff(steps[:-1]))) <= 1


def test_a_gathering_keeps_small_copies(picture):
    gathering = Thumbnails(4, 3)
    gathering.add(picture(height=40, width=60))
    assert gathering.all()[0].image.size == (3, 2)


# Animation


def test_an_animation_has_a_frame_for_each_step_and_holds_the_last(folder, show):
    show(Animation(folder, Pace(fps=10, hold_s=0.9)), 5)
    with Image.open(folder.path / "steps.webp") as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("WEBP", 5, 0)
        durations = []
        for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
            frame.load()
            durations.append(frame.info["duration"])
            assert abs(frame.convert("RGB").getpixel((10, 10))[0] - number * 20) <= 3
    assert durations == [100, 100, 100, 100, 900]
    assert folder.manifest()["animation"] == "steps.webp"


@pytest.mark.parametrize(
    ("shown", "size"), [((48, 32), (48, 32)), ((1024, 768), (512, 384)), ((3000, 2), (512, 1)), ((512, 512),) * 2]
)
def test_an_animation_has_the_size_of_the_final_image_up_to_a_limit(folder, show, shown, size):
    show(Animation(folder), 2, shown=shown)
    assert images(folder, "steps.webp")[0].size == size


def test_an_animation_of_one_step_is_a_picture(folder, show):
    show(Animation(folder), 1)
    assert len(images(folder, "steps.webp")) == 1


def test_an_animation_of_a_thousand_steps_is_thinned(folder, picture):
    animation = Animation(folder, limit=20)
    for index in range(1, 1001):  # of equal frames WebP would make one
        animation.show(picture(index=index, pixels=np.full((1, 1, 4, 6, 3), index // 4, np.uint8)))
    animation.close("finished")
    frames = images(folder, "steps.webp")
    assert 10 < len(frames) <= 20
    assert abs(frames[-1].getpixel((1, 1))[0] - 250) <= 3


def played(path):
    """Of a moving picture: its format, the red of each frame, how long each is seen."""
    with Image.open(path) as image:
        reds, lasting = [], []
        for frame in ImageSequence.Iterator(image):
            frame.load()
            lasting.append(frame.info["duration"])
            reds.append(frame.convert("RGB").getpixel((10, 10))[0])
        return image.format, reds, lasting


def test_a_gif_is_as_long_as_it_should_be_though_it_counts_in_hundredths(folder, show):
    show(Animation(folder, Pace(fps=12, hold_s=0.5), file_format="gif"), 7)
    kind, reds, lasting = played(folder.path / "steps.gif")
    assert kind == "GIF"
    assert reds == pytest.approx([20 * n for n in range(1, 8)], abs=3)
    assert lasting == [80, 90, 80, 80, 90, 80, 500]
    assert folder.manifest()["animation"] == "steps.gif"


def test_the_last_step_is_never_seen_for_less_than_the_others(folder, show):
    show(Animation(folder, Pace(fps=2, hold_s=0)), 3)
    assert played(folder.path / "steps.webp")[2] == [500, 500, 500]


@pytest.mark.parametrize(("span", "steps"), [((0, 0), [1, 5]), ((2, 0), [2, 5]), ((0, 3), [1, 3]), ((4, 4), [4, 4])])
def test_an_animation_goes_from_one_step_to_another(folder, show, span, steps):
    show(Animation(folder, from_step=span[0], to_step=span[1]), 5)
    reds = [frame.getpixel((10, 10))[0] for frame in images(folder, "steps.webp")]
    assert [reds[0], reds[-1]] == pytest.approx([20 * step for step in steps], abs=3)
    assert len(reds) == steps[1] - steps[0] + 1


def test_an_animation_of_steps_that_never_came_is_a_note(folder, show):
    show(Animation(folder, from_step=30, to_step=40), 5)
    assert folder.run.notes == ["no animation: there is no picture of steps 30 to 40; the last step is 5"]
    assert folder.manifest()["animation"] is None


def test_an_mp4_without_pyav_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SinkError, match=r"needs PyAV, which is missing: pip install safelight\[video\]"):
        expect_encoder("mp4")
    expect_encoder("webp")


def test_of_a_batch_all_pictures_are_in_the_animation_and_on_the_sheet(folder, picture):
    pixels = np.stack([np.full((1, 20, 30, 3), value, np.uint8) for value in (50, 100, 150, 200)])
    sinks = Animation(folder), ContactSheet(folder)
    for sink in sinks:
        for index in (1, 2):
            sink.show(picture(index=index, pixels=pixels - 20 * index, shown=(30, 20)))
        sink.close("finished")
    image = images(folder, "steps.webp")[1]
    assert image.size == (61, 41)
    assert [image.getpixel(at)[0] for at in ((15, 10), (45, 10), (15, 30), (45, 30))] == pytest.approx(
        [10, 60, 110, 160], abs=3
    )
    sheet = images(folder, "sheet.png")[0]
    assert {30, 180} <= {colour[0] for _, colour in sheet.getcolors(100_000)}


# Memory, screen


def test_memory_keeps_the_newest(show):
    memory = InMemory(limit=3)
    assert memory.state == "running"
    show(memory, 5)
    assert [picture.index for picture in memory.pictures] == [3, 4, 5]
    assert memory.state == "finished"


def test_a_screen_is_told_in_few_words_once_the_picture_is_there(folder, picture):
    told = []

    def tell(event, facts):
        told.append((event, facts, set(folder.files())))
        assert len(json.dumps(facts)) < 1000

    screen = LiveView(StepFiles(folder, ImageEncoding(file_format="jpg")), tell, {"workflow": "w" * 36, "node": "6:2"})
    screen.open()
    screen.show(picture(index=1, total=20, sigma=0.5))
    screen.close("interrupted")
    place = {"v": 1, "run": folder.run.id, "workflow": "w" * 36, "node": "6:2"}
    step = {"index": 1, "total": 20, "sigma": 0.5, "files": ["step_0001.jpg"], "at": ANY, "decode_ms": ANY, "notes": 0}
    assert told == [
        ("safelight.run", {**place, "state": "running"}, set()),
        ("safelight.step", {**place, **step, "state": "running"}, {"step_0001.jpg"}),
        ("safelight.run", {**place, "state": "interrupted"}, {"step_0001.jpg"}),
    ]


def test_who_looks_is_told_where_nothing_can_be_shown_them(folder, tmp_path):
    told = []
    folder.path = tmp_path / "taken"
    folder.path.write_bytes(b"somebody else's")
    screen = LiveView(
        StepFiles(folder, ImageEncoding()), lambda event, facts: told.append((event, facts["state"])), {"node": "2"}
    )
    with pytest.raises(FileExistsError):
        screen.open()
    assert told == [("safelight.run", "failed")]
    assert folder.manifest()["state"] == "failed"


def test_who_looks_is_told_that_a_run_is_over_whose_worker_does_not_come_back(folder, picture):
    told = []
    screen = LiveView(
        StepFiles(folder, ImageEncoding()), lambda event, facts: told.append((event, facts["state"])), {"node": "2"}
    )
    screen.open()
    screen.abandon("interrupted")
    assert told[-1] == ("safelight.run", "interrupted")
    assert folder.manifest()["state"] == "interrupted"


def test_who_looks_is_told_that_a_run_is_over_whose_folder_was_wiped(folder):
    told = []
    screen = LiveView(
        StepFiles(folder, ImageEncoding()), lambda event, facts: told.append((event, facts["state"])), {"node": "2"}
    )
    screen.open()
    shutil.rmtree(folder.path)
    with pytest.raises(FileNotFoundError):
        screen.close("finished")
    assert told[-1] == ("safelight.run", "finished")
    assert folder.manifest()["state"] == "finished"


def test_a_step_of_many_files_is_told_without_their_names(folder, picture):
    told = []

    class ManyFiles(StepFiles):
        def show(self, picture):
            self.folder.record(picture, *[f"step_0001_{item:03d}.jpg" for item in range(40)])

    screen = LiveView(ManyFiles(folder, ImageEncoding()), lambda _, facts: told.append(facts), {"node": "2"})
    screen.show(picture(index=1))
    assert "files" not in told[0]
    assert len(json.dumps(told[0])) < 1000


def test_a_screen_may_be_replaced_and_files_may_not(folder):
    files = StepFiles(folder, ImageEncoding())
    assert files.delivery.every_step
    assert ContactSheet(folder).delivery.every_step
    assert Animation(folder).delivery.every_step
    assert not LiveView(files, lambda *_: None, {}).delivery.every_step
    assert not folder.delivery.every_step


def test_what_another_thread_is_reading_does_not_change_under_it(folder, picture):
    folder.record(picture(index=1), "1.png")
    reading = iter(folder._steps.values())
    folder.record(picture(index=2), "2.png")
    assert [entry["index"] for entry in reading] == [1]


def test_pictures_are_copied_before_they_are_kept(picture):
    pixels = np.zeros((1, 1, 4, 4, 3), np.uint8)
    gathering = Thumbnails(4, 256)
    gathering.add(picture(pixels=pixels))
    pixels[:] = 255
    file = io.BytesIO()
    gathering.all()[0].image.save(file, "PNG")
    assert Image.open(file).getpixel((0, 0)) == (0, 0, 0)
