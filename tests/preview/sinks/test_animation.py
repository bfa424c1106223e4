"""The animation of a run plays its steps at the chosen speed."""

import numpy as np
import pytest
from PIL import Image, ImageSequence
from safelight.preview.images.animated import Pace
from safelight.preview.options import RunOptions
from safelight.preview.sinks.animation import Animation

PACE = RunOptions().pace()


def played(path):
    """The format of an animation, the red value of each frame, and the duration of each frame."""
    with Image.open(path) as image:
        reds, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frame.load()
            durations.append(frame.info["duration"])
            reds.append(frame.convert("RGB").getpixel((10, 10))[0])
        return image.format, reds, durations


def test_an_animation_has_a_frame_for_each_step_and_holds_the_last(folder, show_steps):
    show_steps(Animation(folder, Pace(fps=10, hold_s=0.9)), 5)
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
def test_an_animation_has_the_size_of_the_final_image_up_to_a_limit(folder, show_steps, shown, size, images):
    show_steps(Animation(folder, PACE), 2, shown=shown)
    assert images("steps.webp")[0].size == size


def test_an_animation_of_one_step_is_a_picture(folder, show_steps, images):
    show_steps(Animation(folder, PACE), 1)
    assert len(images("steps.webp")) == 1


def test_an_animation_of_a_thousand_steps_leaves_out_steps_but_never_the_last(folder, picture, images):
    animation = Animation(folder, PACE)
    for index in range(1, 1001):
        level = 250 if index == 1000 else 200 * (index // 16 % 2)  # WebP merges frames that are almost equal
        animation.show(picture(index=index, pixels=np.full((1, 1, 4, 6, 3), level, np.uint8)))
    animation.close("finished")
    frames = images("steps.webp")
    assert 60 < len(frames) <= 120
    assert abs(frames[-1].getpixel((1, 1))[0] - 250) <= 3


def test_a_gif_has_the_right_duration_in_hundredths_of_a_second(folder, show_steps):
    show_steps(Animation(folder, Pace(fps=12, hold_s=0.5), file_format="gif"), 7)
    file_format, reds, durations = played(folder.path / "steps.gif")
    assert file_format == "GIF"
    assert reds == pytest.approx([20 * n for n in range(1, 8)], abs=3)
    assert durations == [80, 90, 80, 80, 90, 80, 500]
    assert folder.manifest()["animation"] == "steps.gif"


def test_the_last_step_is_shown_at_least_as_long_as_the_others(folder, show_steps):
    show_steps(Animation(folder, Pace(fps=2, hold_s=0)), 3)
    assert played(folder.path / "steps.webp")[2] == [500, 500, 500]


@pytest.mark.parametrize(("span", "steps"), [((0, 0), [1, 5]), ((2, 0), [2, 5]), ((0, 3), [1, 3]), ((4, 4), [4, 4])])
def test_an_animation_contains_the_chosen_range_of_steps(folder, show_steps, span, steps, images):
    show_steps(Animation(folder, PACE, from_step=span[0], to_step=span[1]), 5)
    reds = [frame.getpixel((10, 10))[0] for frame in images("steps.webp")]
    assert [reds[0], reds[-1]] == pytest.approx([20 * step for step in steps], abs=3)
    assert len(reds) == steps[1] - steps[0] + 1


def test_an_animation_of_a_range_without_steps_is_a_note(folder, show_steps):
    show_steps(Animation(folder, PACE, from_step=30, to_step=40), 5)
    assert folder.run.notes == ["no animation: there is no picture of steps 30 to 40; the last step is 5"]
    assert folder.manifest()["animation"] is None


def test_a_run_without_pictures_has_no_animation(folder, show_steps):
    show_steps(Animation(folder, PACE), 0)
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]
    assert folder.manifest()["animation"] is None


def test_an_animation_shows_all_pictures_of_a_batch(folder, picture, images):
    pixels = np.stack([np.full((1, 20, 30, 3), value, np.uint8) for value in (50, 100, 150, 200)])
    animation = Animation(folder, PACE)
    for index in (1, 2):
        animation.show(picture(index=index, pixels=pixels - 20 * index, shown=(30, 20)))
    animation.close("finished")
    image = images("steps.webp")[1]
    assert image.size == (61, 41)
    assert [image.getpixel(at)[0] for at in ((15, 10), (45, 10), (15, 30), (45, 30))] == pytest.approx(
        [10, 60, 110, 160], abs=3
    )
