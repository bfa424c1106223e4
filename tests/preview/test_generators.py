"""What a VAE draws on a device leaves the sampler's random numbers as they were, whatever the device's name."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from safelight.preview.generators import forked_generators, seed_generators

NPU = SimpleNamespace(type="npu")


@pytest.fixture
def log(monkeypatch):
    """What happens to the generators of a device of another maker, which PyTorch has as `torch.npu`."""
    log, state = [], ["first"]

    @contextmanager
    def device(_):
        log.append("chosen")
        yield

    module = SimpleNamespace(
        get_rng_state=lambda _: state[0],
        set_rng_state=lambda old, _: log.append(f"back to {old}"),
        manual_seed=lambda seed: log.append(f"seed {seed}"),
        device=device,
    )
    monkeypatch.setattr(torch, "npu", module, raising=False)
    monkeypatch.setattr(torch, "get_device_module", lambda name: getattr(torch, name))
    return log


def test_the_generator_of_a_device_is_restored(log):
    with forked_generators(NPU):
        log.append("drawn")
    assert log == ["drawn", "back to first"]


def test_a_seed_is_for_the_chosen_device(log):
    with torch.random.fork_rng([]):
        seed_generators(5, NPU)
    assert log == ["chosen", "seed 5"]


@pytest.mark.parametrize("device", [None, torch.device("cpu"), torch.device("privateuseone")])
def test_without_a_generator_of_its_own_only_that_of_the_cpu_is_restored(device):
    before = torch.get_rng_state()
    with forked_generators(device):
        seed_generators(5, device)
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with forked_generators(None):
        seed_generators(5, None)
        assert torch.equal(torch.rand(3), first)
