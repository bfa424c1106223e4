"""Each family of InvokeAI continues as its denoise node begins: at a level, after some steps, with or without noise."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safelight.errors import LatentsError
from safelight.hosts.invokeai.continue_from_step import continuation, unmixed
from safelight.hosts.invokeai.continued_inputs import require_inputs
from safelight.hosts.invokeai.continued_models import CONTINUED_MODELS, WHY_NOT
from safelight.hosts.invokeai.denoise_nodes import DENOISED
from safelight.hosts.invokeai.load_run import saved_run
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.watch import watched

from .fake_host import LEVELS, State, euler, velocity

RUN = "safelight/steps_00001"
STEPS = len(LEVELS) - 1
EXACT = torch.tensor(LEVELS).tolist()  # InvokeAI's schedules are float32
SAVED = InvokeOptions(keep_latents=True)
MIXED = [base for base, model in CONTINUED_MODELS.items() if model.noise == "mixed"]
SWITCHED = [base for base, model in CONTINUED_MODELS.items() if model.noise == "switch"]


@pytest.fixture
def flow_node():
    return SimpleNamespace(id="d", steps=STEPS, seed=3, scheduler="euler", denoising_start=0.0, denoise_mask=None)


@pytest.fixture
def sample_flow(host, flow_node):
    """Samples as a node of a base model does; returns the latents that each step began with, as its node takes them."""

    def sample(base, noise, levels=EXACT):
        states = []

        def loop(context):
            timesteps, latents = list(levels), noise
            total = len(timesteps) - 1
            if base not in DENOISED:
                context.util.sd_step_callback(State(0, 1, total, 0, latents), base)
            for i in range(total):
                states.append(latents)
                after = timesteps[i + 1]
                noise_pred = velocity(latents, timesteps[i])
                latents = latents + (after - timesteps[i]) * noise_pred
                shown = latents - after * noise_pred if base in DENOISED else latents
                context.util.sd_step_callback(State(i + 1, 1, total, 0, shown), base)

        watched(loop, host(), flow_node, SAVED)
        return states

    return sample


def mix(noise, latents, level):
    """As FLUX, SD3 and CogView4 do. Source: InvokeAI 6.14 `sd3_denoise.py`."""
    return level * noise + (1.0 - level) * latents


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("level", [1.0, 0.9999, 0.973, 0.5, 1 / 3, 0.02, 1e-3])
def test_mixed_noise_and_latents_are_the_given_latents_bit_for_bit(dtype, level):
    given = torch.randn(20_000, generator=torch.Generator().manual_seed(5)).to(dtype)
    latents, noise = unmixed(given, level)
    assert latents.dtype == noise.dtype == dtype
    assert torch.equal(mix(noise, latents, level), given)


@pytest.mark.parametrize("base", MIXED)
def test_a_node_that_counts_levels_begins_at_that_of_the_step(host, sample_flow, noise, base):
    states = sample_flow(base, noise)
    for step in range(2, STEPS + 1):
        begun = continuation(saved_run(host(), RUN), step)
        level = 1.0 - begun.denoising_start  # as InvokeAI's clip_timestep_schedule_fractional
        assert level == EXACT[step - 1]
        assert torch.equal(mix(begun.noise, begun.latents, level), states[step - 1])
        assert (begun.steps, begun.seed, begun.add_noise, begun.size) == (STEPS, 3, True, (64, 48))


@pytest.mark.parametrize("base", [base for base in SWITCHED if base != "ernie-image"])
@pytest.mark.parametrize("start", [0.0, 0.34])
def test_a_node_that_counts_steps_leaves_out_those_before(host, sample_flow, flow_node, noise, base, start):
    flow_node.denoising_start = start
    before = int(start * STEPS)
    states = sample_flow(base, noise, EXACT[before:])
    for step in range(2, STEPS - before + 1):
        begun = continuation(saved_run(host(), RUN), step)
        assert int(begun.denoising_start * STEPS) == before + step - 1  # as InvokeAI's z_image_denoise.py
        assert torch.equal(begun.latents, states[step - 1])
        assert (begun.noise, begun.add_noise, begun.steps) == (None, False, STEPS)


def test_ernie_image_gets_its_latents_in_patches(host, flow_node, noise):
    def loop(context):
        timesteps, img = list(LEVELS), noise.repeat(1, 8, 1, 1)
        for i, after in enumerate(timesteps[1:]):
            img = img * 0.5 + i
            whole = torch.nn.functional.pixel_shuffle(img, 2)
            context.util.sd_step_callback(State(i + 1, 1, STEPS, 0, whole - after), "ernie-image")
            states.append(img)

    states = []
    watched(loop, host(), flow_node, SAVED)
    begun = continuation(saved_run(host(), RUN), 3)
    assert torch.equal(begun.latents, states[1])
    assert begun.size == (128, 96)


@pytest.mark.parametrize(("base", "why"), [*WHY_NOT.items(), ("new", "Safelight does not know how its node begins")])
def test_a_node_that_cannot_begin_with_the_latents_of_a_step_is_refused(
    host, sample_flow, noise, monkeypatch, base, why
):
    monkeypatch.setattr("safelight.hosts.invokeai.watch.schedule_facts", lambda *_: {"base": base})
    sample_flow("sd-3", noise)
    with pytest.raises(LatentsError) as refused:
        continuation(saved_run(host(), RUN), 2)
    assert f"cannot be continued, it is a run of {base!r}: {why}" in str(refused.value)
    assert str(refused.value).endswith("Sample again from the first step")


@pytest.mark.parametrize("base", sorted(WHY_NOT.keys() - {"ideogram-4"}))
def test_latents_say_which_model_they_are_of(host, flow_node, noise, base):
    latents = noise.repeat(1, 2, 1, 1) if base == "flux2" else noise
    watched(lambda c: euler(c, latents, base=base), host(), flow_node, SAVED)
    assert saved_run(host(), RUN).latents().facts["base"] == base


@pytest.mark.parametrize(("base", "scheduler"), [("flux", "heun"), ("z-image", "lcm"), ("ernie-image", "heun")])
def test_a_scheduler_that_always_begins_with_its_first_step_is_refused(
    host, sample_flow, flow_node, noise, base, scheduler
):
    flow_node.scheduler = scheduler
    sample_flow(base, noise.repeat(1, 2, 1, 1) if base == "ernie-image" else noise)
    with pytest.raises(
        LatentsError, match=f"begins the schedule of '{scheduler}' with its first step. Sample with euler"
    ):
        continuation(saved_run(host(), RUN), 2)


def test_a_run_with_a_mask_is_refused(host, sample_flow, flow_node, noise):
    flow_node.denoise_mask = SimpleNamespace(mask_name="m")
    sample_flow("z-image", noise)
    with pytest.raises(LatentsError, match="had a denoise mask"):
        continuation(saved_run(host(), RUN), 2)


def test_a_video_of_wan_is_refused(host, sample_flow, flow_node, noise):
    del flow_node.denoising_start  # the node for videos has none
    sample_flow("wan", noise)
    with pytest.raises(LatentsError, match="has no input for latents"):
        continuation(saved_run(host(), RUN), 2)


def test_the_first_step_is_refused_if_its_latents_were_not_reported(host, sample_flow, noise):
    sample_flow("anima", noise, LEVELS[1:])
    with pytest.raises(LatentsError, match=r"step 1: the sampler did not report .* choose a later step"):
        continuation(saved_run(host(), RUN), 1)


@pytest.mark.parametrize(
    "facts",
    [
        {"levels": "[0.5]"},
        {"levels": "[2, 1, 1, 1, 1, 1]"},
        {"timesteps": "[]"},
        {"timesteps": "[NaN, 1, 1, 1, 1, 1]"},
        {"timesteps": "[2, 3, 4, 5, 6, 7]"},
        {"timesteps": "[1, -0.5, 0, 0, 0, 0]"},
        {"schedule_steps": "0"},
        {"schedule_steps": "1" + "0" * 400},
        {"scheduler": "["},
    ],
)
def test_edited_facts_of_a_schedule_are_refused(host, sample_flow, noise, monkeypatch, facts):
    levels = str(LEVELS[:-1])
    true = {"base": "sd-3", "timesteps": levels, "levels": levels, "schedule_steps": "6", "denoising_start": "0.0"}
    monkeypatch.setattr("safelight.hosts.invokeai.watch.schedule_facts", lambda *_: {**true, **facts})
    sample_flow("sd-3", noise)
    with pytest.raises(LatentsError, match="the folder was edited"):
        continuation(saved_run(host(), RUN), 2)


@pytest.mark.parametrize("shape", [(16,), (1, 16, 1, 6, 8), (1, 32, 5, 8)])
def test_latents_of_another_shape_are_refused(host, sample_flow, noise, monkeypatch, shape):
    sample_flow("anima", noise)
    saved = saved_run(host(), RUN)
    held = saved.latents(3)
    facts = {**held.facts, "base": "ernie-image" if len(shape) == 4 else "anima"}
    edited = replace(held, noisy=torch.zeros(shape), facts=facts)
    monkeypatch.setattr(saved, "latents", lambda _: edited, raising=False)
    with pytest.raises(LatentsError, match=r"latents of shape .* the folder was edited"):
        continuation(saved, 3)


def test_more_steps_than_the_node_had_are_refused(host, sample_flow, flow_node, noise):
    flow_node.steps = 2
    sample_flow("z-image", noise)
    with pytest.raises(LatentsError, match="the run has 2 steps; the folder was edited"):
        continuation(saved_run(host(), RUN), 5)


def linked(target, *inputs, latents=True):
    """A context whose graph leads from Continue from Step to a denoise node."""
    names = (*(["latents"] if latents else []), *inputs)
    edges = [
        SimpleNamespace(
            source=SimpleNamespace(node_id="begin", field=name), destination=SimpleNamespace(node_id="d", field=name)
        )
        for name in names
    ]
    graph = SimpleNamespace(nodes={"d": target}, edges=edges)
    session = SimpleNamespace(graph=graph, prepared_source_mapping={"begin_copy": "begin"})
    return SimpleNamespace(_data=SimpleNamespace(queue_item=SimpleNamespace(session=session)))


def begun_with(**facts):
    return SimpleNamespace(**{"noise": None, "add_noise": None, "denoising_start": 0.5, **facts})


BEGIN = SimpleNamespace(id="begin_copy")
START = {"denoising_start": 0.5}
MIXES, SWITCHES = {"noise": "n", "add_noise": True}, {"add_noise": False}


@pytest.mark.parametrize(
    ("begun", "inputs", "values", "why"),
    [
        ({}, (), {"denoising_start": 0.0}, "connect denoising_start to the denoise node too: it is 0.0"),
        ({}, ("noise",), START, "leave noise of the denoise node empty"),
        (MIXES, (), START, "connect noise to the denoise node too"),
        (MIXES, ("noise",), {**START, "add_noise": False}, "connect add_noise to the denoise node too: it is False"),
        (SWITCHES, (), {**START, "add_noise": True}, "connect add_noise to the denoise node too: it is True"),
    ],
)
def test_a_denoise_node_without_what_it_needs_is_refused(begun, inputs, values, why):
    with pytest.raises(LatentsError, match=why):
        require_inputs(linked(SimpleNamespace(**values), *inputs), BEGIN, begun_with(**begun))


@pytest.mark.parametrize(
    ("begun", "inputs", "values"),
    [
        ({}, ("denoising_start",), {"denoising_start": 0.0}),
        ({}, (), START),
        (MIXES, ("noise", "denoising_start"), {**START, "add_noise": True}),
        (SWITCHES, ("add_noise", "denoising_start"), {"add_noise": True, "denoising_start": 0.0}),
        (SWITCHES, ("noise",), {**START, "add_noise": False}),  # the node ignores it
    ],
)
def test_a_denoise_node_with_what_it_needs_is_accepted(begun, inputs, values):
    assert require_inputs(linked(SimpleNamespace(**values), *inputs), BEGIN, begun_with(**begun)) is None


def test_nodes_that_get_no_latents_are_not_checked():
    assert require_inputs(linked(SimpleNamespace(), "noise", latents=False), BEGIN, begun_with()) is None
    assert require_inputs(SimpleNamespace(), BEGIN, begun_with()) is None
