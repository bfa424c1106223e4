"""Pixels become picture files, compared with what Pillow reads and writes."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from safelight.preview.images.encode import MAX_JPEG_EXIF_BYTES, ImageEncoding, shrink

SIZE = 48, 32  # width and height of the final image
PROMPT = json.dumps({"6": {"class_type": "KSampler", "inputs": {"text": "Straße, 夜, 🌃"}}})
WORKFLOW = json.dumps({"nodes": [1, 2, 3]})


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def opened(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_a_png_contains_exactly_the_pixels(pixels):
    image = opened(ImageEncoding().encode(pixels, SIZE))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(image), pixels)


def test_pixels_of_a_strided_array_are_written_correctly(pixels):
    flipped = pixels[::-1, ::2]
    assert np.array_equal(np.asarray(opened(ImageEncoding().encode(flipped, SIZE))), flipped)


@pytest.mark.parametrize(("file_format", "name"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG")])
def test_each_format_has_its_file_type_and_the_same_picture(file_format, name):
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64, 1).repeat(3, 2).astype(np.uint8)
    image = opened(ImageEncoding(file_format=file_format).encode(ramp, (64, 64)))
    assert (image.format, image.size) == (name, (64, 64))
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - ramp).mean() < 2


@pytest.mark.parametrize(
    ("enlarge", "max_side_px", "size"),
    [
        ("off", 0, (6, 4)),
        ("off", 6, (6, 4)),
        ("off", 3, (3, 2)),
        ("off", 1, (1, 1)),
        ("nearest", 0, SIZE),
        ("bicubic", 0, SIZE),
        ("lanczos", 0, SIZE),
        ("lanczos", 3, SIZE),
    ],
)
def test_the_size_follows_enlarge_and_max_side_px(pixels, enlarge, max_side_px, size):
    assert opened(ImageEncoding(enlarge=enlarge, max_side_px=max_side_px).encode(pixels, SIZE)).size == size


def test_nearest_repeats_each_pixel(pixels):
    image = np.asarray(opened(ImageEncoding(enlarge="nearest").encode(pixels, SIZE)))
    assert np.array_equal(image, pixels.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize(
    ("enlarge", "resampling"), [("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)]
)
def test_smooth_filters_equal_those_of_pillow(pixels, enlarge, resampling):
    image = opened(ImageEncoding(enlarge=enlarge).encode(pixels, SIZE))
    assert np.array_equal(np.asarray(image), np.asarray(Image.fromarray(pixels).resize(SIZE, resampling)))


def test_a_picture_of_the_final_size_is_not_changed(pixels):
    assert np.array_equal(np.asarray(opened(ImageEncoding(enlarge="lanczos").encode(pixels, (6, 4)))), pixels)


def test_shrinking_averages_pixels():
    checks = np.indices((8, 8)).sum(0)[..., None].repeat(3, 2) % 2 * 200
    assert set(np.unique(np.asarray(shrink(Image.fromarray(checks.astype(np.uint8)), 4)))) == {100}


def test_a_png_stores_its_texts_as_chunks(pixels):
    texts = {"prompt": PROMPT, "workflow": WORKFLOW, "safelight": "{}"}
    assert opened(ImageEncoding().encode(pixels, SIZE, texts)).text == texts


def test_a_png_stores_texts_with_any_letters(pixels):
    assert opened(ImageEncoding().encode(pixels, SIZE, {"prompt": '"夜"'})).text == {"prompt": '"夜"'}


@pytest.mark.parametrize("file_format", ["webp", "jpg"])
def test_other_formats_store_the_graph_where_comfyui_reads_it(pixels, file_format):
    texts = {"prompt": PROMPT, "workflow": WORKFLOW, "safelight": '{"step": 1}'}
    exif = opened(ImageEncoding(file_format=file_format).encode(pixels, SIZE, texts)).getexif()
    assert exif[0x0110] == f"prompt:{PROMPT}"
    assert exif[0x010F] == f"workflow:{WORKFLOW}"
    assert exif[0x010E] == 'safelight:{"step": 1}'
    assert json.loads(exif[0x0110].removeprefix("prompt:"))["6"]["inputs"]["text"] == "Straße, 夜, 🌃"


@pytest.mark.parametrize("file_format", ["webp", "jpg"])
def test_without_texts_there_is_no_exif(pixels, file_format):
    assert not opened(ImageEncoding(file_format=file_format).encode(pixels, SIZE)).getexif()


@pytest.mark.parametrize("length", [MAX_JPEG_EXIF_BYTES - 60, 65_500, 65_530, 65_536, 70_000, 1_000_000])
def test_a_jpeg_is_saved_without_a_graph_that_is_too_large(pixels, length):
    image = opened(ImageEncoding(file_format="jpg").encode(pixels, SIZE, {"workflow": "x" * length}))
    assert image.size == (6, 4)
    assert (0x010F in image.getexif()) == (length < MAX_JPEG_EXIF_BYTES)


@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_other_formats_store_a_large_graph(pixels, file_format):
    image = opened(ImageEncoding(file_format=file_format).encode(pixels, SIZE, {"workflow": "x" * 1_000_000}))
    text = image.text["workflow"] if file_format == "png" else image.getexif()[0x010F]
    assert text.endswith("x" * 1_000_000)
