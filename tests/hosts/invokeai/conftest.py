"""What the tests of InvokeAI share: a host that looks like InvokeAI, a node, and noise."""

from types import SimpleNamespace

import pytest
import torch

from .fake_host import fake_context


@pytest.fixture
def host(tmp_path):
    """Creates contexts of one InvokeAI, whose outputs are in `tmp_path / "outputs"`."""

    def create(**util):
        return fake_context(tmp_path, **util)

    return create


@pytest.fixture
def node():
    return SimpleNamespace(id="d", steps=6, seed=3, cfg_scale=4.0, scheduler="euler")


@pytest.fixture
def noise():
    return torch.randn((1, 16, 6, 8), generator=torch.Generator().manual_seed(1))
