"""Tests the properties that all kinds of decoder share."""

import contextlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders import decoder as decoder_module
from safelight.decoders.decoder import Card, Decoder, to_bytes
from safelight.decoders.files.decoder_file import build
from safelight.decoders.nets.registry import KINDS
from safelight.decoders.nets.taehv import taehv
from safelight.decoders.nets.taesd import taesd
from safelight.errors import DecoderError, LatentsError

SETTINGS = {
    "polynomial": {"channels": 4, "degree": 3, "kernel": 3, "subpixel": 2, "constant": False, "output_range": (-1, 1)},
    "mlp": {"widths": (4, 12, 3), "output_range": (-1, 1)},
    "tiny": {"layers": taesd(4)},
    "tiny_video": {"layers": taehv(4, (8, 8, 4, 4))},
    "approx": {"channels": 4},
    "principal": {"channels": 4},
    "pixels": {},
    "timeline": {},
    "conv": {"channels": 4, "widths": [5, 5], "subpixel": 2},
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def make(kind, seed=0):
    settings = SETTINGS[kind]
    with torch.device("meta"):
        blank = KINDS[kind](**{key: value for key, value in settings.items() if key != "output_range"})
    generator = torch.Generator().manual_seed(seed)
    state = {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float32, device="cpu") * 0.1
        for key, value in blank.state_dict().items()
    }
    net = build(kind, settings, state)
    return Decoder(Card(name=kind, space=None, kind=kind, settings=settings, scale=net.scale), net)


def latents_for(decoder, height=4, width=6):
    generator = torch.Generator().manual_seed(1)
    size = (2, decoder.net.channels or 4, height, width)
    return torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")


class PassThrough(torch.nn.Module):
    """Returns its input, so that only the code after the net is tested."""

    channels, scale = 3, 1

    def forward(self, latents):
        return latents


def plain():
    return Decoder(Card(name="plain", space=None, kind="pixels"), PassThrough())


def test_each_kind_is_tested_here():
    assert SETTINGS.keys() == KINDS.keys()


@every_kind
def test_an_image_has_the_documented_shape_and_range(kind):
    decoder = make(kind)
    height = 1 if kind == "timeline" else 4
    latents = latents_for(decoder, height=height)
    rgb = decoder.decode(latents)
    rows = 256 if kind == "timeline" else height * decoder.scale
    assert rgb.shape == (2, 3, rows, 6 * decoder.scale)
    assert rgb.dtype is torch.float32
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert not rgb.requires_grad
    assert to_bytes(rgb).is_contiguous()
    assert to_bytes(rgb).shape == (2, rows, 6 * decoder.scale, 3)


@every_kind
def test_decoding_does_not_write_to_the_latents(kind):
    decoder = make(kind)
    latents = latents_for(decoder)
    before = latents.clone()
    decoder.decode(latents).fill_(0.5)
    assert torch.equal(latents, before)


@every_kind
def test_an_image_has_no_gradient_graph(kind):
    decoder = make(kind)
    assert not decoder.decode(latents_for(decoder).requires_grad_()).requires_grad


@every_kind
def test_creating_a_decoder_does_not_change_the_random_state(kind):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    decoder = make(kind)
    decoder.decode(latents_for(decoder))
    assert torch.equal(torch.get_rng_state(), before)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_latents_of_any_precision_are_decoded(kind, dtype):
    latents = latents_for(make(kind)).to(dtype)
    rgb = make(kind).decode(latents)
    assert rgb.dtype is torch.float32
    assert torch.equal(rgb, make(kind).decode(latents.float()))


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS = {
    "inference mode": lambda: torch.inference_mode(),
    "gradients": lambda: torch.enable_grad(),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64 by default": lambda: default_dtype(torch.float64),
    "float16 by default": lambda: default_dtype(torch.float16),
    "another device by default": lambda: torch.device("meta"),
}


@every_kind
@pytest.mark.parametrize("surrounding", list(SURROUNDINGS))
def test_global_settings_of_torch_change_no_image(kind, surrounding):
    decoder = make(kind)
    latents = latents_for(decoder)
    expected = decoder.decode(latents)
    with SURROUNDINGS[surrounding]():
        created_inside = make(kind)
        # Two new decoders, because `principal` has state.
        images = [created_inside.decode(latents)]
    outside = make(kind)
    with SURROUNDINGS[surrounding]():
        images.append(outside.decode(latents))
    for rgb in images:
        assert rgb.dtype is torch.float32
        assert torch.equal(rgb.clone(), expected)


@every_kind
def test_a_decoder_created_in_inference_mode_works_outside_of_it(kind):
    with torch.inference_mode():
        decoder = make(kind)
        first = decoder.decode(latents_for(decoder)).clone()
    decoder = decoder.to("cpu")
    decoder.net.double().float()  # moves the weights like a change of device
    torch.testing.assert_close(decoder.decode(latents_for(decoder)), first.clone(), rtol=0, atol=1e-5)


@every_kind
def test_a_decoder_works_in_another_thread(kind):
    decoder = make(kind)
    latents = latents_for(decoder)
    expected, found = make(kind).decode(latents), []
    thread = threading.Thread(target=lambda: found.append(decoder.decode(latents)))
    thread.start()
    thread.join(timeout=60)
    assert torch.equal(found[0], expected)


@every_kind
def test_latents_that_are_not_finite_still_give_an_image(kind):
    decoder = make(kind)
    latents = latents_for(decoder)
    latents[0, 0] = float("nan")
    latents[1, 1] = float("inf")
    latents[1, 2] = -float("inf")
    rgb = decoder.decode(latents)
    assert torch.isfinite(rgb).all()
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_values_outside_0_to_1_are_clamped_and_nan_is_black():
    values = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5, float("nan"), float("inf"), -float("inf")])
    rgb = plain().decode(values.expand(1, 3, 1, 8))
    assert rgb[0, 0, 0].tolist() == [0.0, 0.0, 0.25, 1.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_an_output_without_finite_values_is_an_error_if_the_latents_are_finite(bad):
    def broken(latents):
        return latents * bad

    decoder = plain()
    decoder.net.forward = broken
    with pytest.raises(
        DecoderError, match=r"decoder plain returned no finite number for finite latents; choose another decoder"
    ):
        decoder.decode(torch.ones(1, 3, 40, 40))
    assert torch.isfinite(decoder.decode(torch.full((1, 3, 40, 40), bad))).all()
    decoder.net.forward = lambda latents: torch.cat([broken(latents[..., :39]), latents[..., 39:]], -1)
    assert torch.isfinite(decoder.decode(torch.ones(1, 3, 40, 40))).all()


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (1, 2, 2, 2), (3, 2, 2), (1, 3, 1, 2, 2), (3,), ()], ids=str)
def test_latents_of_another_shape_are_refused(shape):
    with pytest.raises(
        LatentsError, match=r"decoder plain expects latents \[B, 3, H, W\], got .*; unpack .* or choose"
    ):
        plain().decode(torch.zeros(shape))


def test_pixels_are_the_image():
    latents = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0]).expand(1, 3, 1, 5)
    assert make("pixels").decode(latents)[0, 0, 0].tolist() == [0.0, 0.5, 0.75, 1.0, 1.0]


def test_bytes_are_rounded_to_nearest():
    rgb = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    rgb[0, 0, 0, :3] = torch.tensor([0.0, 1.0, 254.6 / 255])
    pixels = to_bytes(rgb)
    expected = np.rint(rgb.numpy() * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1)
    assert pixels.dtype is torch.uint8
    assert (pixels.numpy() == expected).all()
    assert pixels[0, 0, :3, 0].tolist() == [0, 255, 255]


def test_each_byte_value_survives_conversion_to_an_image_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    rgb = pixels.movedim(-1, 1) / 255
    image = Image.fromarray(to_bytes(rgb)[0].numpy())
    assert image.mode == "RGB"
    assert [image.getpixel((x, y)) for y in range(16) for x in range(16)] == [(v, v, v) for v in range(256)]


def test_conversion_to_bytes_does_not_change_the_image():
    rgb = torch.full((1, 3, 1, 1), 0.3)
    to_bytes(rgb)
    assert torch.equal(rgb, torch.full((1, 3, 1, 1), 0.3))


@pytest.mark.parametrize(
    ("answer", "off"), [(True, ["npu"]), (False, []), (RuntimeError("unknown device type for autocast"), [])]
)
def test_autocast_of_the_latents_own_device_is_switched_off_if_it_is_on(monkeypatch, answer, off):
    def is_on(device):
        if isinstance(answer, Exception):
            raise answer
        return answer and device == "npu"

    seen = []
    monkeypatch.setattr(torch, "is_autocast_enabled", is_on)
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: seen.append(device) or contextlib.nullcontext())
    with decoder_module._in_full_precision(SimpleNamespace(device=SimpleNamespace(type="npu"))):
        assert seen == off
