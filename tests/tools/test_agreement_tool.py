"""The tool that measures the limits of trials: a right decoder agrees, a changed one does not."""

import torch
from safelight.decoders.agreement import Agreement
from safelight.decoders.files.shipped import WEIGHTS, open_shipped
from safelight.fitting.pairs import Pairs
from safelight.tools.agreement import SHUFFLES, agreements, changes
from safetensors.torch import load_file


def pairs():
    latents = load_file(WEIGHTS / "demo-flux2-latents.safetensors")["latents"][:3, :, 16:48, 16:48]
    return Pairs(latents, torch.zeros(3, 3, 256, 256, dtype=torch.uint8))


def test_only_the_right_decoder_agrees_with_the_reference():
    table, reference = open_shipped("flux2-quadratic"), open_shipped("flux2-conv-small")
    values = {
        name: sum(agreements(table, reference, pairs(), change), Agreement()).value
        for name, change in changes(32, seed=0).items()
    }
    assert len(values) == SHUFFLES + 3
    assert values.pop("right") > 0.8
    assert max(values.values()) < 0.5


def test_the_changes_are_the_same_for_the_same_seed():
    latents = torch.randn(1, 32, 2, 2)
    for name, change in changes(32, seed=1).items():
        assert torch.equal(change(latents), changes(32, seed=1)[name](latents))
