"""Compares the cost of a decoder with PyTorch's count of its operations."""

import pytest
import torch
from safelight.decoders.files.decoder_file import build
from safelight.decoders.nets.registry import KINDS
from safelight.decoders.nets.taehv import taehv
from safelight.decoders.nets.taesd import taeqi, taesana, taesd
from torch.utils.flop_counter import FlopCounterMode

SIDE = 8
# Operations that multiply weights. Other operations of these kinds multiply other values.
PRODUCTS = dict.fromkeys(KINDS, ("convolution",)) | {"polynomial": ("convolution", "mm")}

EXACT = [
    ("polynomial", {"channels": 16}),
    ("polynomial", {"channels": 4, "constant": False}),
    ("polynomial", {"channels": 32, "kernel": 7}),
    ("polynomial", {"channels": 16, "subpixel": 8}),
    ("polynomial", {"channels": 4, "degree": 3}),
    ("polynomial", {"channels": 4, "degree": 2, "kernel": 3, "subpixel": 2}),
    ("mlp", {"widths": [4, 12, 12, 3]}),
    ("conv", {"channels": 32, "widths": [32, 32]}),
    ("conv", {"channels": 4, "widths": [8, 16, 16], "kernel": 5, "subpixel": 4}),
    ("tiny", {"layers": taesd(4)}),
    ("tiny", {"layers": taesd(32, pooled=1)}),
    ("tiny", {"layers": taesana(32)}),
    ("tiny", {"layers": taeqi(64)}),
    ("tiny_video", {"layers": taehv(16)}),
    ("tiny_video", {"layers": taehv(128, (64, 32, 16, 16), (2, 2, 2), patch=4)}),
    ("tiny_video", {"layers": taehv(32, (64, 32, 16, 16), patch=2, wide=True)}),
    ("principal", {}),
    ("pixels", {}),
    ("timeline", {}),
]


def net_and_count(kind, settings):
    """Returns the net, and the multiplications per latent pixel that PyTorch counts for latents of `SIDE`."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in KINDS[kind](**settings).state_dict().items()}
    net = build(kind, settings, {key: torch.zeros(shape) for key, shape in shapes.items()})
    height = 1 if kind == "timeline" else SIDE
    latents = torch.randn(1, net.channels or 5, height, SIDE, generator=torch.Generator().manual_seed(0))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        list(net.frames(latents[:, :, None]))
    counts = counter.get_flop_counts().get("Global", {})
    products = sum(flops for op, flops in counts.items() if any(name in str(op) for name in PRODUCTS[kind]))
    return net, products / 2 / (height * SIDE)


@pytest.mark.parametrize(("kind", "settings"), EXACT, ids=str)
def test_the_cost_equals_the_multiplications_of_the_convolutions(kind, settings):
    net, counted = net_and_count(kind, settings)
    assert net.cost == counted


def test_the_cost_of_a_quadratic_follows_its_formula_although_it_is_computed_differently():
    net, counted = net_and_count("polynomial", {"channels": 32, "degree": 2})
    assert net.cost == 3 * (32 + 32 * 33 // 2)
    assert net.cost <= counted + 3 * 32 <= 2 * net.cost


def test_the_cost_of_approx_ignores_its_padding():
    net, counted = net_and_count("approx", {"channels": 4})
    assert net.cost < counted  # it also computes the padding around the image
    large = SIDE * 2 + 2 * 11
    assert counted < net.cost * (large / (SIDE * 2)) ** 2


@pytest.mark.parametrize("wide", [False, True])
def test_the_cost_of_a_video_decoder_is_per_latent_frame(wide):
    settings = {"layers": taehv(4, (8, 8, 6, 4), wide=wide)}
    net, _ = net_and_count("tiny_video", settings)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        list(net.frames(torch.zeros(1, 4, 3, SIDE, SIDE)))
    convolutions = counter.get_total_flops() / 2 / (3 * SIDE * SIDE)
    assert convolutions == net.cost


def test_the_cost_of_each_kind_is_tested():
    assert {kind for kind, _ in EXACT} | {"approx", "tiny_video"} == KINDS.keys()
