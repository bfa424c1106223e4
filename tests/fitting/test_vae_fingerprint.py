"""The fingerprint of a VAE: the same for each precision, another one for another VAE."""

import re

import pytest
import torch
from safelight.fitting.vae_fingerprint import VALUES_PER_TENSOR, vae_fingerprint
from torch import nn


class Vae(nn.Module):
    """A VAE with some layers, a buffer of whole numbers, and state that is no tensor."""

    def __init__(self, seed=0, width=8):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(*(nn.Conv2d(width, width, 3) for _ in range(12)), nn.GroupNorm(2, width))
        self.register_buffer("count", torch.tensor(3))

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


def test_the_fingerprint_is_the_same_after_a_restart():
    assert re.fullmatch("[0-9a-f]{12}", vae_fingerprint(Vae()))
    assert vae_fingerprint(Vae()) == vae_fingerprint(Vae())


def test_the_same_vae_in_float32_and_in_bfloat16_has_one_fingerprint():
    rounded = Vae().bfloat16()
    assert vae_fingerprint(rounded) == vae_fingerprint(Vae())
    assert vae_fingerprint(rounded.float()) == vae_fingerprint(Vae())


def test_the_layout_in_memory_does_not_count():
    assert vae_fingerprint(Vae().to(memory_format=torch.channels_last)) == vae_fingerprint(Vae())


def test_other_vaes_have_other_fingerprints():
    retrained = Vae()
    with torch.no_grad():
        for parameter in retrained.parameters():
            parameter += 0.02
    found = {vae_fingerprint(vae) for vae in (Vae(), Vae(seed=1), Vae(width=10), retrained)}
    assert len(found) == 4


def test_names_count():
    layers = Vae().layers
    assert vae_fingerprint(nn.ModuleDict({"a": layers})) != vae_fingerprint(nn.ModuleDict({"b": layers}))


@pytest.mark.parametrize("module", [nn.Identity(), nn.Sequential(), nn.Embedding(0, 4)])
def test_a_module_without_weights_has_none(module):
    assert vae_fingerprint(module) == ""


def test_weights_of_whole_numbers_give_none():
    quantized = nn.Module()
    quantized.register_buffer("weight", torch.arange(9))
    assert vae_fingerprint(quantized) == ""


def test_weights_without_values_give_none():
    assert vae_fingerprint(Vae().to("meta")) == ""


def test_a_vae_whose_weights_are_partly_elsewhere_has_none():
    """Offloading leaves weights on "meta". Another choice of weights would be another fingerprint."""
    vae = Vae()
    vae.layers[:6].to("meta")
    assert vae_fingerprint(vae) == ""


def test_float8_weights_have_a_fingerprint():
    if not hasattr(torch, "float8_e4m3fn"):
        pytest.skip("this PyTorch has no float8")
    vae = Vae()
    vae.layers[0].to(torch.float8_e4m3fn)
    assert vae_fingerprint(vae)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_module_is_not_changed(context):
    vae = Vae().train()
    before = {key: tensor.clone() for key, tensor in vae.named_parameters()}
    attributes = dict(vae.__dict__)
    with context():
        vae_fingerprint(vae)
    assert vae.training
    assert vae.__dict__ == attributes
    for key, tensor in vae.named_parameters():
        assert torch.equal(tensor, before[key])
        assert tensor.requires_grad
        assert tensor.grad is None
        assert not tensor.is_inference()


def test_only_some_values_of_a_large_tensor_are_read():
    vae = nn.Linear(1000, 1000, bias=False)
    before = vae_fingerprint(vae)
    step = vae.weight.numel() // VALUES_PER_TENSOR
    with torch.no_grad():
        vae.weight.view(-1)[1] += 1
    assert vae_fingerprint(vae) == before
    with torch.no_grad():
        vae.weight.view(-1)[step] += 1
    assert vae_fingerprint(vae) != before
