"""The truth meter: pictures against the last one and against the VAE's."""

import json

import numpy as np
import pytest
from safelight.decoders.decoder import Card
from safelight.decoders.latents.space_table import SPACES
from safelight.preview.manifest import read_manifest, validate_manifest
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import FULL, Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.truth import MAX_STEPS, TruthMeter, shown_image
from safelight.preview.step import StepInfo

GENERATOR = np.random.default_rng(3)
TARGET = GENERATOR.integers(40, 200, (16, 24, 3), dtype=np.uint8)


def shown(index, pixels, *, kind="conv", show="denoised", not_finite=0.0):
    info = StepInfo(index=index, total=4, show=show)
    card = Card(name="tiny", space="sd1", kind=kind)
    return DecodedPicture(
        step=info, pixels=pixels[None, None], shown=(192, 128), card=card, decode_ms=1.0, not_finite=not_finite
    )


def off(by):
    """The target with an error of `by` levels in each value."""
    return (TARGET.astype(int) + by).astype(np.uint8)


def db(levels):
    return pytest.approx(-20 * np.log10(levels / 255), abs=0.01)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", Run())
    folder.open()
    return folder


def test_each_step_is_compared_with_the_last(folder):
    meter = TruthMeter(folder.run, 8, [folder])
    for index, by in ((1, 16), (2, 8), (3, 0)):
        meter.show(shown(index, off(by)))
    folder.close("finished")
    meter.close("finished")
    truth = read_manifest(folder.path)["truth"]
    assert (truth["psnr_db"], truth["decoder"], truth["step"]) == (None, "tiny", 3)
    assert truth["to_last_db"] == [[1, db(16)], [2, db(8)]]


def test_the_vaes_picture_comes_after_the_run(folder):
    reports = []
    meter = TruthMeter(folder.run, 8, [folder], reports.append)
    meter.show(shown(1, off(4)))
    folder.close("finished")
    meter.close("finished")
    meter.judge(TARGET.repeat(8, 0).repeat(8, 1))
    assert read_manifest(folder.path)["truth"]["psnr_db"] == db(4)
    assert reports == [db(4)]


def test_the_vaes_picture_of_a_kept_step_is_compared_with_that_step(folder):
    meter = TruthMeter(folder.run, 8, [folder])
    for index, by in ((1, 16), (2, 4), (3, 8)):
        meter.show(shown(index, off(by)))
    meter.keep(2)
    folder.close("stopped")
    meter.close("stopped")
    meter.judge(TARGET)
    truth = read_manifest(folder.path)["truth"]
    assert (truth["psnr_db"], truth["step"]) == (db(4), 2)
    assert truth["to_last_db"] == [[1, db(12)], [3, db(4)]]


def test_a_kept_step_without_a_picture_is_not_measured(folder):
    meter = TruthMeter(folder.run, 8, [folder])
    meter.show(shown(1, off(16)))
    meter.keep(2)
    folder.close("stopped")
    meter.close("stopped")
    assert "truth" not in read_manifest(folder.path)


def test_the_vaes_picture_may_come_before_the_first_picture(folder):
    """The worker may be behind: it decodes while the host's VAE is quick."""
    meter = TruthMeter(folder.run, 8, [folder])
    meter.judge(TARGET.repeat(8, 0).repeat(8, 1))
    meter.show(shown(1, off(8)))
    meter.show(shown(2, off(4)))
    folder.close("finished")
    meter.close("finished")
    assert read_manifest(folder.path)["truth"]["psnr_db"] == db(4)


@pytest.mark.parametrize(
    ("space", "latent_frames", "images", "first", "last"),
    [("wan21", 5, 17, 5, 8), ("wan21", 1, 1, 0, 0), ("wan21", 2, 5, 1, 4), ("ltxv", 5, 33, 9, 16), ("sd1", 6, 6, 3, 3)],
)
def test_the_image_of_a_middle_frame_is_one_that_its_latents_decode_to(space, latent_frames, images, first, last):
    """A causal VAE decodes the first latent frame to one image, and the others to `frame_stride` each."""
    row = SPACES[space]
    assert images == 1 + (latent_frames - 1) * row.frame_stride
    shape = (1, row.channels, latent_frames, 4, 4)
    assert first <= shown_image(row, shape, middle=True) <= last
    assert shown_image(row, shape, middle=False) == 0
    assert shown_image(row, (1, row.channels, 4, 4), middle=True) == 0


def test_decoder_full_judges_the_last_preview(folder):
    meter = TruthMeter(folder.run, 8, [folder])
    meter.show(shown(1, off(2)))
    meter.show(shown(2, TARGET.repeat(8, 0).repeat(8, 1), kind=FULL))
    meter.close("finished")
    assert folder.run.truth["psnr_db"] == db(2)
    assert folder.run.truth["step"] == 1


def test_pictures_of_any_scale_are_compared_at_latent_size(folder):
    meter = TruthMeter(folder.run, 8)
    meter.show(shown(1, off(4).repeat(2, 0).repeat(2, 1)))
    meter.judge(TARGET.repeat(8, 0).repeat(8, 1))
    assert folder.run.truth["psnr_db"] == db(4)


def test_noise_and_broken_latents_are_not_measured(folder):
    meter = TruthMeter(folder.run, 8)
    meter.show(shown(1, TARGET, show="noisy"))
    meter.show(shown(2, TARGET, not_finite=0.5))
    meter.close("finished")
    meter.judge(TARGET)
    assert folder.run.truth is None


def test_memory_is_bounded_and_the_last_step_stays(folder):
    meter = TruthMeter(folder.run, 8)
    for index in range(1, MAX_STEPS + 100):
        meter.show(shown(index, TARGET))
    meter.close("finished")
    assert len(folder.run.truth["to_last_db"]) == MAX_STEPS - 1
    assert folder.run.truth["step"] == MAX_STEPS + 99


def test_a_removed_folder_is_not_written_again(folder, tmp_path):
    meter = TruthMeter(folder.run, 8, [folder])
    meter.show(shown(1, TARGET))
    folder.close("finished")
    (folder.path / "run.json").unlink()
    folder.path.rmdir()
    meter.judge(TARGET)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("truth", [3, None, {"psnr_db": "much", "to_last_db": [[1], ["a", 2], [1, True], [2, 3.5]]}])
def test_any_truth_in_a_record_is_made_safe(folder, truth):
    manifest = validate_manifest(json.loads(json.dumps(folder.manifest() | {"truth": truth})))
    assert manifest["truth"] in (None, {"psnr_db": None, "decoder": None, "to_last_db": [[2, 3.5]]})
