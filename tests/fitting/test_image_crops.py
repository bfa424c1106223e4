"""Crops of one size: finding images, cutting crops inside them, skipping crops of one color."""

import logging

import numpy as np
import pytest
from PIL import Image
from safelight.errors import FitError
from safelight.fitting.image_crops import MAX_SHORT_SIDE, find_images, read_crops


def ramp(width, height):
    """Draws red rising to the right and green rising downwards, both from 0 to 255; blue is noise."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    pixels[..., 2] = np.random.default_rng(0).integers(0, 256, (height, width))
    return pixels


def saved(path, pixels, **kwargs):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path, **kwargs)
    return path


def test_images_in_folders_and_lists_are_found_once_and_sorted(tmp_path):
    names = ["b.png", "a.JPG", "deep/er/c.webp", "d.tif"]
    paths = [saved(tmp_path / name, ramp(8, 8)) for name in names]
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    assert find_images([tmp_path]) == sorted(paths)
    assert find_images([paths[3], tmp_path / "deep", paths[3]]) == sorted([paths[2], paths[3]])


def test_a_place_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(FitError, match=r"no image in .*; expected files ending in \.jpg"):
        find_images([tmp_path, tmp_path / "notes.txt"])


def test_a_missing_place_is_refused_even_if_others_have_images(tmp_path):
    path = saved(tmp_path / "a.png", ramp(8, 8))
    with pytest.raises(FitError, match="gone: no such file or folder; expected images"):
        find_images([path, tmp_path / "gone"])


@pytest.mark.parametrize("size", [(40, 40), (100, 40), (40, 100), (16, 300), (400, 90)], ids=str)
def test_crops_have_the_requested_size_and_are_inside_the_image(tmp_path, size):
    path = saved(tmp_path / "a.png", ramp(*size))
    found = list(read_crops([path], 32, 6, seed=1))
    assert [(crop.shape, crop.dtype) for crop in found] == [((32, 32, 3), np.uint8)] * 6
    for crop in found:  # red still rises in one direction and green downwards
        red, green = crop[..., 0].astype(int).mean(0), crop[..., 1].astype(int).mean(1)
        assert abs(red[-1] - red[0]) == pytest.approx(np.ptp(red), abs=2)
        assert green[-1] - green[0] == pytest.approx(np.ptp(green), abs=2)


def test_the_first_crop_shows_as_much_as_fits_and_others_are_at_most_2_5_times_closer(tmp_path):
    path = saved(tmp_path / "a.png", ramp(1000, 500))
    whole, *closer = (np.ptp(crop[..., 1].astype(int).mean(1)) for crop in read_crops([path], 32, 40, seed=0))
    assert whole == pytest.approx(255, abs=10)
    assert min(closer) >= 250 / MAX_SHORT_SIDE - 10
    assert min(closer) < 250 / MAX_SHORT_SIDE + 15 < max(closer)


def test_a_small_image_is_enlarged_only_to_the_crop_size(tmp_path):
    path = saved(tmp_path / "a.png", ramp(40, 40))
    seen = {
        round(np.ptp(crop[..., 1].astype(int).mean(1)) / 255 * 40 / 32, 1) for crop in read_crops([path], 32, 20, 0)
    }
    assert min(seen) >= 0.9


def test_a_very_long_image_does_not_fill_the_memory(tmp_path):
    path = saved(tmp_path / "a.png", ramp(30_000, 1)[..., ::-1].copy())
    assert [crop.shape for crop in read_crops([path], 64, 2, seed=0)] == [(64, 64, 3)] * 2


def test_the_seed_determines_the_places_of_crops(tmp_path):
    path = saved(tmp_path / "a.png", ramp(90, 60))
    first, again, other = (np.stack(list(read_crops([path], 32, 4, seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_about_half_of_the_crops_are_mirrored(tmp_path):
    path = saved(tmp_path / "a.png", ramp(60, 60))
    rises = [
        crop[..., 0].astype(int).mean(0)[-1] > crop[..., 0].astype(int).mean(0)[0]
        for crop in read_crops([path], 32, 60, 0)
    ]
    assert 15 < sum(rises) < 45


def test_the_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right
    path = saved(tmp_path / "a.png", ramp(64, 32), exif=exif)
    (crop,) = read_crops([path], 32, 1, seed=0)
    assert np.ptp(crop[..., 0].astype(int).mean(1)) > 80  # red now rises downwards
    assert np.ptp(crop[..., 0].astype(int).mean(0)) < 10


def test_crops_of_one_color_are_skipped(tmp_path):
    gray = saved(tmp_path / "gray.png", np.full((64, 64, 3), 120, np.uint8))
    path = saved(tmp_path / "ramp.png", ramp(64, 64))
    assert len(list(read_crops([gray, path], 32, 3, seed=0))) == 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / "a.tif"
    Image.fromarray(ramp(64, 64)).convert(mode).save(path)
    assert next(read_crops([path], 32, 1, seed=0)).shape == (32, 32, 3)


def test_unreadable_images_are_skipped_with_a_warning(tmp_path, caplog):
    good = saved(tmp_path / "good.png", ramp(64, 64))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    cut = saved(tmp_path / "cut.png", ramp(64, 64))
    cut.write_bytes(cut.read_bytes()[:-200])
    altered = saved(tmp_path / "altered.png", ramp(64, 64))
    content = altered.read_bytes()
    altered.write_bytes(content[:30] + b"\0\0\0\0" + content[34:])  # the first chunk's checksum, and the next's length
    bad = [tmp_path / "text.png", tmp_path / "empty.jpg", cut, altered, tmp_path / "gone.png"]
    with caplog.at_level(logging.WARNING, "safelight.fitting"):
        assert len(list(read_crops([*bad, good], 32, 2, seed=0))) == 2
    assert [record.args[0] for record in caplog.records] == list(map(str, bad))


def test_an_image_whose_parser_raises_any_error_is_skipped(tmp_path, caplog, monkeypatch):
    good = saved(tmp_path / "good.png", ramp(64, 64))

    def fail(*_, **__):
        raise IndexError("a damaged file")

    with caplog.at_level(logging.WARNING, "safelight.fitting"), monkeypatch.context() as patched:
        patched.setattr(Image.Image, "convert", fail)
        assert list(read_crops([good], 32, 1, seed=0)) == []
    assert "IndexError: a damaged file" in caplog.text


def test_a_format_for_which_pillow_starts_a_program_is_not_opened(tmp_path, caplog):
    path = tmp_path / "picture.png"
    Image.fromarray(ramp(64, 64)).save(path, format="EPS")
    with caplog.at_level(logging.WARNING, "safelight.fitting"):
        assert list(read_crops([path], 32, 1, seed=0)) == []
    assert "cannot identify" in caplog.text
