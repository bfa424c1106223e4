"""Compares the estimated memory of a decode with the memory that PyTorch allocates."""

import weakref

import pytest
import torch
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card, Decoder, to_bytes
from safelight.decoders.files.decoder_file import build
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.memory_estimate import estimate_memory
from safelight.decoders.nets.registry import KINDS
from safelight.decoders.nets.taehv import taehv
from safelight.decoders.nets.taesd import taesd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SIDE = 32
TINY = [
    ("tiny", {"layers": taesd(4)}, 4, 1),
    ("tiny", {"layers": taesd(32, pooled=1)}, 32, 1),
    ("tiny_video", {"layers": taehv(16, (32, 16, 8, 8))}, 16, 9),
]


class AllocatedBytes(TorchDispatchMode):
    """Counts all tensors that operations create, nested operations included; the reference."""

    def __init__(self):
        super().__init__()
        self.peak = self.now = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and id(storage) not in given and storage not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.gone, storage.nbytes())
        return results

    def gone(self, size):
        self.now -= size


def allocated_peak(decoder, channels, frames, side=SIDE):
    latents = torch.randn(1, channels, frames, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), AllocatedBytes() as allocated:
        for rgb in decoder.frames(latents):
            to_bytes(rgb)
            del rgb
    return allocated.peak


def decoder_of(kind, settings):
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in KINDS[kind](**settings).state_dict().items()}
    net = build(kind, settings, {key: torch.zeros(shape) for key, shape in shapes.items()})
    return Decoder(Card(name=kind, space=None, kind=kind, settings=settings, scale=net.scale, cost=net.cost), net)


@pytest.mark.parametrize(
    "candidate", Catalogue().of(SPACES["flux2"]) + Catalogue().of(SPACES["sd1"]), ids=lambda c: c.name
)
def test_the_estimate_for_shipped_decoders_matches_the_real_memory(candidate):
    estimate = estimate_memory(candidate.card, (1, candidate.card.channels, 1, SIDE, SIDE)).work
    assert estimate == pytest.approx(allocated_peak(candidate.open(), candidate.card.channels, 1), rel=0.15)


@pytest.mark.parametrize(("kind", "settings", "channels", "frames"), TINY)
def test_the_estimate_for_published_decoders_matches_the_real_memory(kind, settings, channels, frames):
    decoder = decoder_of(kind, settings)
    estimate = estimate_memory(decoder.card, (1, channels, frames, SIDE, SIDE)).work
    assert estimate == pytest.approx(allocated_peak(decoder, channels, frames), rel=0.15)


@pytest.mark.parametrize("kind", ["principal", "timeline"])
def test_the_estimate_for_kinds_without_a_cost_is_an_upper_bound(kind):
    height = 1 if kind == "timeline" else SIDE
    decoder = Decoder(Card(name=kind, space=None, kind=kind), build(kind, {}, {}))
    latents = torch.randn(1, 16, 1, height, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), AllocatedBytes() as allocated:
        for rgb in decoder.frames(latents):
            to_bytes(rgb)
    assert allocated.peak < max(1 << 20, estimate_memory(decoder.card, latents.shape).work)


def test_the_estimate_includes_the_weights():
    card = Catalogue().of(SPACES["flux2"])[0].card
    assert estimate_memory(card, (1, 32, 1, 8, 8)).weights == 4 * card.parameters


def test_the_estimate_grows_with_the_image_and_not_with_the_batch():
    card = Catalogue().of(SPACES["flux2"])[0].card
    small, large = (estimate_memory(card, (batch, 32, 1, side, side)).work for batch, side in ((1, 16), (8, 64)))
    assert large == pytest.approx(16 * small, rel=1e-6)


def test_an_estimate_does_not_change_the_random_state():
    before = torch.random.get_rng_state()
    estimate_memory(decoder_of("mlp", {"widths": [4, 8, 3]}).card, (1, 4, 1, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), before)
