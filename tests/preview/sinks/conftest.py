"""An opened folder of a run, and helpers to fill a sink and to read its files."""

import pytest
from PIL import Image, ImageSequence
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    """The opened folder of a run."""
    folder = RunFolder(tmp_path / "run", Run(space="sd1"))
    folder.open()
    return folder


@pytest.fixture
def show_steps(picture):
    """A function that opens a sink, shows it `total` steps and closes it."""

    def show_steps(sink, total, **fields):
        sink.open()
        for index in range(1, total + 1):
            sink.show(picture(index=index, total=total, **fields))
        sink.close("finished")

    return show_steps


@pytest.fixture
def images(folder):
    """A function that returns the frames of a picture file in the run's folder, as RGB."""

    def images(name):
        with Image.open(folder.path / name) as image:
            return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]

    return images
