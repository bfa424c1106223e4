"""A live run's picture as a file to save."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.sinks.live_export import exported_picture
from safelight.preview.sinks.live_runs import ExportFacts, LiveRuns
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.step import StepInfo

SHOWN = (48, 32)
TEXTS = {"workflow": json.dumps({"id": "w"})}
MAX_BYTES = 1 << 20


def picture(items=1, frames=1, index=3):
    pixels = np.zeros((items, frames, 4, 6, 3), np.uint8)
    pixels[..., 0] = 60 + 40 * np.arange(frames)[None, :, None, None]
    pixels[..., 1] = 60 + 40 * np.arange(items)[:, None, None, None]
    step = StepInfo(index=index, total=8, sigma=1.5, show="denoised", at_s=0.5)
    card = Card(name="d", space="sd1", kind="test", source="a test")
    return DecodedPicture(step=step, pixels=pixels, shown=SHOWN, card=card, decode_ms=1.0, fps=12.0)


def record(folder, file_format, shown, **options):
    folder.open()
    files = StepFiles(folder, ImageEncoding(file_format=file_format), small_bytes=1 << 20, **options)
    files.open()
    files.show(shown)


@pytest.fixture
def begin(tmp_path):
    """Records the live pictures of a step and, if wanted, its written files."""

    def begin(shown, *, written=None, seed=77, **options):
        run = Run(sampler={"seed": seed})
        folder = None if written is None else RunFolder(tmp_path / "mine_00012", run)
        export = ExportFacts(written=folder, texts=lambda: TEXTS, prefix="mine")
        live = LiveRuns().new(run, tmp_path / "live", export=export)
        record(live.folder, "jpg", shown, batch="all files")
        if folder is not None:
            record(folder, written, shown, **options)
        return live

    return begin


def export(live, file="step_0003.jpg", frame=None):
    exported = exported_picture(live, file, frame, MAX_BYTES)
    return exported.name, Image.open(io.BytesIO(exported.content)), exported.content


def test_a_live_picture_becomes_a_png_of_the_final_size_with_its_workflow(begin):
    name, image, _ = export(begin(picture()))
    assert name == "mine_seed77_step_0003.png"
    assert (image.format, image.size) == ("PNG", SHOWN)
    assert image.text["workflow"] == TEXTS["workflow"]
    assert json.loads(image.text["safelight"])["step"] == 3


def test_without_metadata_and_seed_the_file_has_neither(tmp_path):
    live = LiveRuns().new(Run(), tmp_path / "plain")
    record(live.folder, "jpg", picture())
    name, image, _ = export(live)
    assert (name, image.text) == ("safelight_step_0003.png", {})


@pytest.mark.parametrize("file_format", ["png", "webp", "jpg"])
def test_the_written_file_is_exported_unchanged(begin, tmp_path, file_format):
    name, _, content = export(begin(picture(), written=file_format))
    assert name == f"mine_seed77_step_0003.{file_format}"
    assert content == (tmp_path / f"mine_00012/step_0003.{file_format}").read_bytes()


def test_each_picture_of_a_batch_is_exported_even_if_the_file_is_a_grid_of_all(begin):
    live = begin(picture(items=2), written="png", batch="grid")
    for item in (1, 2):
        name, image, _ = export(live, f"step_0003_item_{item:02d}.jpg")
        assert name == f"mine_seed77_step_0003_item_{item:02d}.png"
        assert image.size == SHOWN
        assert abs(image.getpixel((9, 9))[1] - (60 + 40 * (item - 1))) < 4


def test_a_written_picture_that_was_deleted_is_replaced_by_the_live_one(begin, tmp_path):
    live = begin(picture(), written="webp")
    (tmp_path / "mine_00012/step_0003.webp").unlink()
    assert export(live)[1].format == "PNG"


def test_a_step_that_was_reported_twice_is_not_taken_from_its_first_file(begin):
    live = begin(picture(), written="webp")
    live.export.written._steps[3]["at"] = 0.4
    assert export(live)[1].format == "PNG"


def test_a_video_is_exported_whole_or_as_one_frame(begin):
    live = begin(picture(frames=3))
    name, video, _ = export(live, "step_0003.webp")
    assert (name, video.n_frames, video.size) == ("mine_seed77_step_0003.webp", 3, SHOWN)
    for frame in (0, 2, 9):  # a browser asks for a frame that an encoder has merged
        name, image, _ = export(live, "step_0003.webp", frame)
        assert name == f"mine_seed77_step_0003_frame_{frame + 1:04d}.png"
        assert abs(image.getpixel((9, 9))[0] - (60 + 40 * min(frame, 2))) < 12


def test_the_written_file_of_a_frame_is_exported(begin, tmp_path):
    live = begin(picture(frames=3), written="png", frames_apart=True)
    _, _, content = export(live, "step_0003.webp", 1)
    assert content == (tmp_path / "mine_00012/step_0003/frame_0002.png").read_bytes()


def test_no_other_file_is_exported(begin):
    assert exported_picture(begin(picture()), "run.json", None, MAX_BYTES) is None
