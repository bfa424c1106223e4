"""Weights that accelerate has offloaded."""

import pytest
import torch
from safelight.hosts.online_learning import fingerprint_of
from torch import nn

accelerate = pytest.importorskip("accelerate")


def vae():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)))


def test_a_vae_that_is_offloaded_has_its_fingerprint():
    expected, module = fingerprint_of(vae()), vae()
    accelerate.cpu_offload(module, torch.device("cpu"))
    assert all(weight.is_meta for weight in module.parameters())
    assert fingerprint_of(module) == expected
    assert all(weight.is_meta for weight in module.parameters())


def test_a_vae_on_disk_has_its_fingerprint(tmp_path):
    expected, module = fingerprint_of(vae()), vae()
    accelerate.disk_offload(module, str(tmp_path), torch.device("cpu"))
    assert fingerprint_of(module) == expected


def test_weights_without_values_anywhere_have_no_fingerprint():
    assert fingerprint_of(vae().to("meta")) == ""
