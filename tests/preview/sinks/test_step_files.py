"""The files of a step: names, pixels, metadata."""

import json

import numpy as np
import pytest
from PIL import Image
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.sinks.step_files import StepFiles


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


def test_each_file_holds_the_picture_of_its_own_step(folder, picture):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 1, 1, 4, 6, 3), np.uint8)
    files = StepFiles(folder, ImageEncoding())
    files.open()
    for index, of_step in enumerate(pixels, 1):
        files.show(picture(index=index, total=4, pixels=of_step))
    for index, of_step in enumerate(pixels, 1):
        with Image.open(folder.path / f"step_{index:04d}.png") as image:
            assert np.array_equal(np.asarray(image), of_step[0, 0]), index


def test_facts_and_texts_can_be_left_out(folder, show_steps):
    show_steps(StepFiles(folder, ImageEncoding(), facts=False), 1)
    with Image.open(folder.path / "step_0001.png") as image:
        assert image.text == {}


def test_texts_are_requested_once_and_not_before_opening(folder, show_steps):
    calls = []
    files = StepFiles(folder, ImageEncoding(), texts=lambda: calls.append(1) or {})
    assert calls == []
    show_steps(files, 3)
    assert calls == [1]


def test_a_step_is_listed_only_after_its_file_is_written(folder, picture, monkeypatch):
    files = StepFiles(folder, ImageEncoding())
    files.open()

    def no_space(name, content):
        raise OSError("No space left on device")

    monkeypatch.setattr(folder, "write", no_space)
    with pytest.raises(OSError, match="No space left"):
        files.show(picture())
    assert folder.files() == set()
