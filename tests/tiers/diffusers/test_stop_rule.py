"""The user's rule ends a pipeline early when its picture has stopped moving."""

import threading

import diffusers
import pytest
import torch
from safelight.errors import OptionError
from safelight.hosts.diffusers import watch
from safelight.preview.sinks.base import Delivery, Sink
from safetensors.torch import load_file
from tiny_pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]
STEPS, WAIT_S = 12, 60.0


class Shown(Sink):
    """A screen after which the worker has judged a step: the rule comes before screens that no run waits for."""

    name = "shown"
    delivery = Delivery.NEWEST

    def __init__(self):
        self.steps = [threading.Event() for _ in range(STEPS + 1)]
        self.changes = {}

    def show(self, picture):
        self.changes[picture.index] = picture.change
        self.steps[picture.index].set()


@pytest.fixture
def sampled(sd1, tmp_path):
    """A function that samples, waits for each picture, and returns the run, the screen and the latents."""

    def sample(pipe=sd1, **options):
        shown = Shown()

        def wait(pipe, index, timestep, kwargs):
            assert shown.steps[index + 1].wait(WAIT_S)
            return kwargs

        with watch(pipe, tmp_path, screen=shown, sheet=False, animation="off", **options) as run:
            latents = SD1.run(pipe, num_inference_steps=STEPS, callback_on_step_end=wait, output_type="latent")
        return run, shown, latents

    return sample


@pytest.fixture
def met(sampled):
    """A rule, and the step at which it is met: only the step with the largest change is a movement."""
    _, shown, _ = sampled()
    changes = {index: change for index, change in shown.changes.items() if change is not None}
    moved_at = max(changes, key=lambda index: changes[index])
    assert moved_at + 2 < STEPS - 1
    return {"stop_below_percent": 99 * changes[moved_at], "stop_after_steps": 2}, moved_at + 2


def test_the_estimate_of_the_step_after_the_rule_is_met_is_the_result_bit_for_bit(sampled, met):
    rule, index = met
    run, shown, latents = sampled(keep_latents=True, **rule)
    manifest, kept = run.manifest(), index + 1
    assert (manifest["state"], manifest["sampler"]["kept_step"]) == ("stopped", kept)
    below = rule["stop_below_percent"]
    assert manifest["sampler"]["stop_rule"] == {"below_percent": below, "steps": 2, "step": kept}
    [note] = manifest["notes"]
    assert note == f"stopped by your rule at step {kept}: moved less than {below:g} % for 2 steps"
    assert max(shown.changes) == kept
    assert torch.equal(torch.as_tensor(latents), load_file(run.folder / f"step_{kept:04d}.safetensors")["denoised"])


def test_a_rule_that_is_not_met_changes_nothing(sampled, met):
    _, _, expected = sampled()
    run, shown, latents = sampled(stop_below_percent=100.0)  # no step moves the picture so much
    assert (run.manifest()["state"], run.notes, max(shown.changes)) == ("finished", [], STEPS)
    assert run.manifest()["sampler"]["stop_rule"] == {"below_percent": 100.0, "steps": 3}
    assert torch.equal(torch.as_tensor(latents), torch.as_tensor(expected))


class NamedInpaint(diffusers.StableDiffusionPipeline):
    """A pipeline whose name says that it adds noise to a given image."""


def test_a_pipeline_whose_estimate_cannot_be_kept_goes_on_and_says_why(sd1, sampled, met):
    pipe = NamedInpaint(**sd1.components)
    pipe.set_progress_bar_config(disable=True)
    rule, index = met
    run, _, _ = sampled(pipe, **rule)
    assert run.manifest()["state"] == "finished"
    [note] = run.notes
    assert note.startswith(f"your rule would end this run at step {index}, but it goes on: no estimate of")


def test_without_a_rule_the_record_has_none(sampled):
    assert "stop_rule" not in sampled()[0].manifest()["sampler"]


def test_a_loop_of_the_user_refuses_a_rule(sd1):
    watched = watch(sd1.scheduler, space="sd1", stop_below_percent=0.5)
    with pytest.raises(OptionError, match="expected 0 for a loop of your own, which cannot be stopped from outside"):
        watched.__enter__()
