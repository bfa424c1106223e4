"""The user's rule ends a denoise node of InvokeAI, with the estimate of a step as its latents."""

import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.invokeai.kept_estimate import as_output, why_not_kept
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.watch import watched
from safelight.preview.manifest import read_manifest
from safelight.preview.run_control import RunControl
from safetensors.torch import load_file

from .fake_host import LEVELS, State

WAIT_S = 60.0
RULED = InvokeOptions(
    write_intermediates=True,
    keep_latents=True,
    filename_prefix="ruled/run",
    stop_below_percent=0.5,
    stop_after_steps=2,
)


class LatentsOutput:
    """InvokeAI's output of a denoise node."""

    def __init__(self, name):
        self.name = name

    @classmethod
    def build(cls, latents_name, latents, seed):
        assert seed is None
        return cls(latents_name)


class LatentsMetaOutput(LatentsOutput):
    """The same with metadata."""


@pytest.fixture
def context(host):
    """A context that stores tensors."""
    context, stored = host(), {}

    def save(tensor):
        stored[f"tensor {len(stored)}"] = tensor
        return f"tensor {len(stored) - 1}"

    context.tensors = SimpleNamespace(save=save, stored=stored)
    return context


@pytest.fixture
def asked(monkeypatch):
    """An event that is set when the rule has asked a run to stop."""
    event, stop_by_rule = threading.Event(), RunControl.stop_by_rule

    def ask(control):
        stop_by_rule(control)
        event.set()

    monkeypatch.setattr(RunControl, "stop_by_rule", ask)
    return event


def sample(context, noise, asked=None):
    """Samples as SD3 does. The estimate changes in the second step, then stays; the rule is met at step 4 of 6."""
    estimates = [torch.zeros_like(noise), *[torch.full_like(noise, 0.8)] * 5]
    timesteps = list(LEVELS)
    latents, total = noise, len(timesteps) - 1
    context.util.sd_step_callback(State(0, 1, total, 1, latents), "sd-3")
    for i, (sigma, after) in enumerate(pairwise(timesteps)):
        noise_pred = (latents - estimates[i]) / sigma
        latents = latents + (after - sigma) * noise_pred
        context.util.sd_step_callback(State(i + 1, 1, total, int(sigma), latents), "sd-3")
        if i + 1 == 4 and asked is not None:
            assert asked.wait(WAIT_S)
    return latents


def test_the_node_outputs_the_estimate_of_the_step_that_ends_next(context, node, noise, asked, tmp_path):
    output = watched(lambda c: sample(c, noise, asked), context, node, RULED, LatentsOutput)
    latents = context.tensors.stored[output.name]
    folder = tmp_path / "outputs" / "ruled" / "run_00001"
    assert torch.equal(latents, load_file(folder / "step_0005.safetensors")["denoised"])
    assert latents.sub(0.8).abs().max() < 1e-4
    manifest = read_manifest(folder)
    assert (manifest["state"], manifest["sampler"]["kept_step"], manifest["sampler"]["steps"]) == ("stopped", 5, 6)
    assert manifest["sampler"]["stop_rule"] == {"below_percent": 0.5, "steps": 2, "step": 5}
    assert "stopped by your rule at step 5: moved less than 0.5 % for 2 steps" in manifest["notes"]


def test_an_output_that_only_the_node_can_build_goes_on_and_the_note_says_why(context, node, noise, tmp_path):
    expected = sample(context, noise)
    assert torch.equal(watched(lambda c: sample(c, noise), context, node, RULED, LatentsMetaOutput), expected)
    manifest = read_manifest(tmp_path / "outputs" / "ruled" / "run_00001")
    assert manifest["state"] == "finished"
    assert "stop_below_percent has no effect: this node outputs more than latents. Set it to 0" in manifest["notes"]


@pytest.mark.parametrize(
    ("fields", "space", "middle", "says"),
    [
        ({}, "sd3", False, None),
        ({"denoise_mask": object()}, "sdxl", False, "with a denoise mask"),
        ({"denoising_end": 0.8}, "sdxl", False, "another node continues this run"),
        ({"denoising_end": 1.0, "denoise_mask": None}, "sdxl", False, None),
        ({}, "flux2", False, "in another form than they are sampled in"),
        ({}, "wan21", True, "only one frame"),
    ],
)
def test_where_an_estimate_is_not_the_result_the_reason_is_said(fields, space, middle, says):
    found = why_not_kept(SimpleNamespace(**fields), LatentsOutput, SPACES[space], middle_frame=middle)
    assert found == says or says in found


def test_an_estimate_has_the_type_and_the_axes_of_the_nodes_own_latents():
    sampled = torch.zeros(1, 16, 4, 6, dtype=torch.bfloat16)
    assert as_output(torch.zeros(1, 16, 4, 6), sampled, "flux").dtype == torch.bfloat16
    assert as_output(torch.zeros(1, 16, 4, 6), sampled, "anima").shape == (1, 16, 4, 6)
    assert as_output(torch.zeros(1, 16, 4, 6), sampled, "qwen-image").shape == (1, 16, 1, 4, 6)
