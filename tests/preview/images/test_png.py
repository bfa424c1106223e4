"""Pictures become PNGs, which Pillow reads back."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image
from safelight.preview.images.png import ROWS, encode_png


def opened(content):
    image = Image.open(io.BytesIO(content))
    image.load()  # checks the sum of each chunk
    return image


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (ROWS - 1, 5), (ROWS, ROWS), (ROWS + 1, 2), (3 * ROWS + 7, 11)])
def test_any_size_has_the_same_pixels_after_reading(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = opened(encode_png(pixels))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", size[::-1])
    assert np.array_equal(np.asarray(image), pixels)


def test_darkest_and_brightest_pixels_do_not_run_over():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[::2, 1::2] = 255
    assert np.array_equal(np.asarray(opened(encode_png(pixels))), pixels)


def test_a_smooth_picture_takes_a_part_of_its_bytes():
    ramp = np.add.outer(np.arange(256), np.arange(256)) // 2
    assert len(encode_png(ramp.astype(np.uint8)[..., None].repeat(3, 2))) < 256 * 256 * 3 / 5


def test_texts_are_chunks_before_the_pixels():
    content = encode_png(np.zeros((2, 2, 3), np.uint8), {"prompt": "Straße", "workflow": "夜"})
    assert opened(content).text == {"prompt": "Straße", "workflow": "夜"}
    assert content.index(b"workflow") < content.index(b"IDAT")


def test_the_filter_is_the_average_of_the_left_and_the_upper_byte():
    content = encode_png(np.array([[[10, 20, 30], [13, 21, 30]], [[20, 20, 31], [30, 0, 0]]], np.uint8))
    start = content.index(b"IDAT")
    size = int.from_bytes(content[start - 4 : start], "big")
    first, second = (3, 10, 20, 30, 8, 11, 15), (3, 15, 10, 16, 30 - 16, (0 - 20) % 256, (0 - 30) % 256)
    assert zlib.decompress(content[start + 4 : start + 4 + size]) == bytes((*first, *second))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected pixels \[H, W, 3\] uint8, got"):
        encode_png(np.zeros(shape, np.uint8))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match=r"got .* float32"):
        encode_png(np.zeros((4, 4, 3), np.float32))
