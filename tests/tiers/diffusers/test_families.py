"""Every family of pipelines: its previews agree with its own states, its own unpacking and its own VAE."""

import functools
import inspect
import itertools

import numpy as np
import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.diffusers import watch
from safelight.preview.saved_run import SavedRun
from tiny_pipelines import FAMILIES, STEPS

pytestmark = pytest.mark.filterwarnings("ignore")


class States:
    """The latents of a pipeline before the first step and after each step."""

    def __init__(self, pipe, monkeypatch):
        self.latents = []
        prepare = pipe.prepare_latents

        @functools.wraps(prepare)
        def prepared(*args, **kwargs):
            prepared_latents = prepare(*args, **kwargs)
            first = prepared_latents if isinstance(prepared_latents, torch.Tensor) else prepared_latents[0]
            self.latents.append(first.clone())
            return prepared_latents

        monkeypatch.setattr(pipe, "prepare_latents", prepared, raising=False)
        self.arguments = {"callback_on_step_end": self.on_step_end}
        if "callback_on_step_end" not in inspect.signature(pipe.__call__).parameters:
            self.arguments = {"callback": lambda i, t, latents: self.latents.append(latents.clone())}

    def on_step_end(self, pipe, index, timestep, kwargs):
        self.latents.append(kwargs["latents"].clone())
        return kwargs


def levels_of(scheduler):
    """Returns alpha and sigma of each state, from the scheduler's tables."""
    name = type(scheduler).__name__
    if "DDIM" in name:
        cumprods = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps]
        return [(a**0.5, (1 - a) ** 0.5) for a in (*cumprods, float(scheduler.final_alpha_cumprod))]
    sigmas = [float(s) for s in scheduler.sigmas]
    if name == "EulerDiscreteScheduler":
        return [(1.0, s) for s in sigmas]
    return [(s, 1 - s) if scheduler.config.invert_sigmas else (1 - s, s) for s in sigmas]


def x0_between(before, after, level, level_after):
    """x = a x0 + s e and x' = a' x0 + s' e, for a sampler with one x0 and one e within a step."""
    (a, s), (a_after, s_after) = level, level_after
    return (s * after.double() - s_after * before.double()) / (s * a_after - s_after * a)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def watched(family, make, tmp_path, monkeypatch):
    """A run of a family without and with previews."""
    tiny, pipe = make(family)
    plain = tiny.run(pipe)
    attributes = set(vars(pipe)), set(vars(pipe.scheduler))
    with monkeypatch.context() as patch:
        states = States(pipe, patch)
        decoded = []
        decode = pipe.vae.decode
        patch.setattr(pipe.vae, "decode", lambda z, *a, **k: (decoded.append(z.clone()), decode(z, *a, **k))[1])
        rng = torch.get_rng_state()
        with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
            result = tiny.run(pipe, **states.arguments)
        assert torch.equal(rng, torch.get_rng_state())
    assert (set(vars(pipe)), set(vars(pipe.scheduler))) == attributes
    return {
        "family": family,
        "tiny": tiny,
        "pipe": pipe,
        "plain": plain,
        "result": result,
        "run": run,
        "states": states,
        "z": decoded,
    }


def latents_of(run):
    saved = SavedRun.open(run.folder)
    return [saved.latents(index) for index in range(1, STEPS + 1)]


def test_a_watched_run_has_the_same_result_and_correct_previews(watched):
    run, tiny = watched["run"], watched["tiny"]
    # The result is bit-identical.
    assert np.array_equal(np.asarray(watched["plain"]), np.asarray(watched["result"]))
    # There is a picture for each step, with the right space and shape.
    height, width = tiny.latents[-2:]
    scale = run.manifest()["decoder"]["scale"]
    assert [(p.index, p.total, p.show) for p in run.pictures] == [(i + 1, STEPS, "denoised") for i in range(STEPS)]
    assert {p.pixels.shape for p in run.pictures} == {(1, 1, height * scale, width * scale, 3)}
    manifest = run.manifest()
    assert (manifest["space"], manifest["state"], manifest["notes"]) == (tiny.space, "finished", [])
    assert manifest["host"]["pipeline"] == type(watched["pipe"]).__name__
    assert manifest["sampler"]["seed"] == 3
    assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
    # Latents are unpacked as the pipeline unpacks them.
    shapes = {tuple(saved.denoised.shape) for saved in latents_of(run)}
    assert {(*shape[:2], *(() if len(shape) == 5 else (1,)), *shape[2:]) for shape in shapes} == {(1, *tiny.latents)}
    # x0 agrees with the states before and after each step.
    pipe, states_of_run = watched["pipe"], watched["states"].latents
    assert len(states_of_run) == STEPS + 1
    levels = levels_of(pipe.scheduler)
    for saved, states, level_pair in zip(
        latents_of(run), itertools.pairwise(states_of_run), itertools.pairwise(levels), strict=True
    ):
        expected = tiny.unpack(pipe, x0_between(*states, *level_pair).float())
        torch.testing.assert_close(saved.denoised.view(expected.shape), expected, rtol=2e-3, atol=2e-3)
        noisy = tiny.unpack(pipe, states[0])
        torch.testing.assert_close(saved.noisy.view(expected.shape), noisy.to(saved.noisy.dtype))
    # The last x0 is what the VAE decodes.
    (z,) = watched["z"]
    if watched["family"] == "Kandinsky5":  # it does not apply the shift of its VAE, unlike all others
        z = z + SPACES[tiny.space].shift
    last = latents_of(run)[-1].denoised
    torch.testing.assert_close(last, SPACES[tiny.space].to_model(z).view(last.shape), rtol=2e-3, atol=2e-3)
