"""Pairs: encoding, averaging, files; mismatched latents and images are refused."""

import numpy as np
import pytest
import torch
from safelight.decoders.files import tensor_file
from safelight.errors import FitError
from safelight.fitting import pairs as pairs_module
from safelight.fitting.pairs import ENCODE_BATCH, Pairs, encode_pairs
from safetensors.torch import save_file


def pairs_of(count=3, channels=4, size=(2, 3), downscale=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h, w = size
    pixels = torch.randint(256, (count, 3, h * downscale, w * downscale), generator=generator, dtype=torch.uint8)
    return Pairs(torch.randn(count, channels, h, w, generator=generator).half(), pixels)


def crops_of(count, size=16, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def encode(rgb):
    """Encodes 8 x 8 pixels to a latent pixel: the mean color, and the red of the corner."""
    small = torch.nn.functional.avg_pool2d(rgb, 8)
    return torch.cat([small, rgb[:, :1, ::8, ::8]], 1)


# Sizes.


def test_pairs_have_channels_and_a_downscale_factor():
    pairs = pairs_of(3, channels=16, downscale=8)
    assert (len(pairs), pairs.channels, pairs.downscale) == (3, 16, 8)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_images_are_averaged_in_blocks(scale):
    pairs = pairs_of()
    rgb, block = pairs.rgb(scale), 8 // scale
    assert rgb.dtype == torch.float32
    assert rgb.shape == (3, 3, 2 * scale, 3 * scale)
    for b, c, i, j in [(0, 0, 0, 0), (2, 1, 2 * scale - 1, 0), (1, 2, 0, 3 * scale - 1)]:
        part = pairs.pixels[b, c, i * block : (i + 1) * block, j * block : (j + 1) * block].numpy()
        assert float(rgb[b, c, i, j]) == pytest.approx(part.mean() / 255, abs=1e-6)


@pytest.mark.parametrize("at", [slice(1, 3), torch.tensor([2, 0, 2])], ids=["slice", "indices"])
def test_selected_images_equal_those_of_all(at):
    pairs = pairs_of()
    assert torch.equal(pairs.rgb(2, at), pairs.rgb(2)[at])


def test_changing_returned_images_does_not_change_the_pairs():
    pairs = pairs_of()
    before = pairs.pixels.clone()
    pairs.rgb(8).zero_()
    assert torch.equal(pairs.pixels, before)


@pytest.mark.parametrize("scale", [3, 5, 16])
def test_a_scale_that_does_not_divide_the_downscale_is_refused(scale):
    with pytest.raises(FitError, match=f"a scale that divides 8, got {scale}"):
        pairs_of().rgb(scale)


@pytest.mark.parametrize(
    ("latents", "pixels", "message"),
    [
        ((2, 4, 2, 2), (3, 3, 16, 16), r"as many images .* got \[2, 4, 2, 2\] and \[3, 3, 16, 16\]"),
        ((4, 2, 2), (1, 3, 16, 16), r"expected latents \[N, C, h, w\]"),
        ((2, 4, 2, 2), (2, 3, 16), r"expected latents \[N, C, h, w\]"),
        ((2, 4, 2, 2), (2, 16, 16, 3), r"as many images \[N, 3, H, W\], .* \[2, 16, 16, 3\]"),
        ((0, 4, 2, 2), (0, 3, 16, 16), r"expected latents \[N, C, h, w\]"),
        ((2, 4, 0, 2), (2, 3, 16, 16), r"expected latents \[N, C, h, w\]"),
        ((2, 4, 2, 2), (2, 3, 0, 0), "a whole multiple of the latent size, got 0x0 for 2x2"),
        ((2, 4, 2, 3), (2, 3, 16, 25), "a whole multiple of the latent size, got 25x16 for 3x2"),
        ((2, 4, 2, 3), (2, 3, 16, 48), "got 48x16 for 3x2"),
    ],
    ids=str,
)
def test_mismatched_latents_and_images_are_refused(latents, pixels, message):
    with pytest.raises(FitError, match=message):
        Pairs(torch.zeros(latents), torch.zeros(pixels, dtype=torch.uint8))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(value):
    pairs = pairs_of()
    pairs.latents[1, 2, 0, 1] = value
    with pytest.raises(FitError, match="expected finite latents, got NaN or infinity"):
        Pairs(pairs.latents, pairs.pixels)


def test_images_in_floats_and_latents_in_bytes_are_refused():
    pairs = pairs_of()
    with pytest.raises(
        FitError, match=r"floating point latents and uint8 images, got torch\.float16 and torch\.float32"
    ):
        Pairs(pairs.latents, pairs.pixels.float())
    with pytest.raises(FitError, match=r"got torch\.uint8"):
        Pairs(pairs.latents.abs().byte(), pairs.pixels)


# Addition.


def test_pairs_are_added_in_order():
    first, second = pairs_of(2, seed=1), pairs_of(3, seed=2)
    both = first + second
    assert len(both) == 5
    assert torch.equal(both.latents[2:], second.latents)
    assert torch.equal(both.pixels[:2], first.pixels)


def test_pairs_of_another_size_are_not_added():
    with pytest.raises(FitError, match=r"pairs of one size, got \[4, 2, 3\] for .* and \[16, 2, 3\]"):
        pairs_of() + pairs_of(channels=16)


# Files.


def test_pairs_are_unchanged_after_save_and_load(tmp_path):
    pairs = pairs_of()
    path = tmp_path / "p.safetensors"
    Pairs(pairs.latents.transpose(2, 3), pairs.pixels.transpose(2, 3)).save(path)
    loaded = Pairs.load(path)
    assert torch.equal(loaded.latents, pairs.latents.transpose(2, 3))
    assert torch.equal(loaded.pixels, pairs.pixels.transpose(2, 3))
    assert loaded.latents.dtype == torch.float16
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"latents": torch.zeros(1, 4, 2, 2)}, "expected tensors `latents` and `pixels`, pixels missing"),
        ({"weight": torch.zeros(1)}, "latents and pixels missing"),
        ({"latents": torch.zeros(1, 4, 2, 2), "pixels": torch.zeros(2, 3, 4, 4).byte()}, "as many images"),
    ],
    ids=["no pixels", "another file", "too many pixels"],
)
def test_a_file_without_pairs_is_refused_by_name(tmp_path, content, message):
    save_file(content, tmp_path / "p.safetensors")
    with pytest.raises(FitError, match=rf"p\.safetensors: .*{message}"):
        Pairs.load(tmp_path / "p.safetensors")


def test_truncated_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "p.safetensors"
    pairs_of().save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FitError, match=r"not a whole safetensors file.*; expected pairs"):
        Pairs.load(path)
    with pytest.raises(FitError, match=r"gone\.safetensors: cannot be read"):
        Pairs.load(tmp_path / "gone.safetensors")


def test_a_file_of_pairs_may_be_larger_than_a_decoder_file_up_to_a_limit(tmp_path):
    assert pairs_module.MAX_PAIRS_BYTES > 10 * tensor_file.MAX_DECODER_BYTES
    pairs_of().save(tmp_path / "p.safetensors")
    with pytest.raises(FitError, match="bytes; a file of pairs has at most 100"):
        Pairs.load(tmp_path / "p.safetensors", max_bytes=100)


# Encoding.


def test_all_images_are_encoded_in_order_in_batches():
    crops, sizes = crops_of(2 * ENCODE_BATCH + 3), []
    pairs = encode_pairs(lambda rgb: sizes.append(len(rgb)) or encode(rgb), iter(crops), 4)
    assert sizes == [ENCODE_BATCH, ENCODE_BATCH, 3]
    assert torch.equal(pairs.pixels, torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
    for crop, latents in zip(crops, pairs.latents, strict=True):
        assert float(latents[3, 1, 1]) == pytest.approx(crop[8, 8, 0] / 255, abs=1e-3)
        assert float(latents[2, 0, 1]) == pytest.approx(crop[:8, 8:, 2].mean() / 255, abs=1e-3)


def test_encoding_keeps_no_gradient():
    weight = torch.ones((), requires_grad=True)
    assert not encode_pairs(lambda rgb: encode(rgb) * weight, crops_of(1), 4).latents.requires_grad


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (lambda rgb: encode(rgb) * float("nan"), "the encoder gave NaN, infinity or numbers beyond float16"),
        (lambda rgb: encode(rgb) + 1e6, "beyond float16"),
        (lambda rgb: encode(rgb)[:, :3], r"expected latents \[B, 4, h, w\] from the encoder, got \[1, 3, 2, 2\]"),
        (lambda rgb: encode(rgb)[:, :, None], r"got \[1, 4, 1, 2, 2\]"),
        (lambda rgb: encode(rgb).repeat(2, 1, 1, 1), "as many images"),
        (lambda rgb: encode(rgb)[..., :1], "a whole multiple"),
    ],
    ids=["nan", "huge", "channels", "video", "count", "not square"],
)
def test_an_encoder_with_wrong_output_is_refused(encoder, message):
    with pytest.raises(FitError, match=message):
        encode_pairs(encoder, crops_of(1), 4)


def test_encoding_without_images_is_refused():
    with pytest.raises(FitError, match="at least one image with some content, got none"):
        encode_pairs(encode, [], 4)


@pytest.mark.parametrize("at", [1, ENCODE_BATCH])
def test_images_of_several_sizes_are_refused(at):
    crops = crops_of(ENCODE_BATCH + 1)
    crops[at] = crops_of(1, size=24)[0]
    with pytest.raises(FitError, match=r"images of one size, got \(16, 16, 3\) and \(24, 24, 3\)"):
        encode_pairs(encode, crops, 4)


def test_a_size_that_the_encoder_does_not_divide_is_refused_after_one_batch():
    batches = []

    def rounding_up(rgb):
        batches.append(len(rgb))
        return torch.zeros(len(rgb), 4, *(-(-side // 8) for side in rgb.shape[2:]))

    with pytest.raises(FitError, match=r"whole multiple of .*, got 20x20 for 3x3; image sides must be divisible"):
        encode_pairs(rounding_up, crops_of(5 * ENCODE_BATCH, size=20), 4)
    assert batches == [ENCODE_BATCH]
