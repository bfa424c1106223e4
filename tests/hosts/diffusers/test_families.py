"""Every family of pipelines, watched, beside what its own states, its own unpacking and its own VAE say."""

import functools
import inspect
import itertools

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.diffusers import watch
from safelight.preview.saved_run import SavedRun
from tiny_pipelines import FAMILIES, STEPS

pytestmark = pytest.mark.filterwarnings("ignore")


class States:
    """What a pipeline worked on: before the first step, and after each."""

    def __init__(self, pipe, monkeypatch):
        self.seen = []
        prepare = pipe.prepare_latents

        @functools.wraps(prepare)
        def prepared(*args, **kwargs):
            made = prepare(*args, **kwargs)
            self.seen.append((made if isinstance(made, torch.Tensor) else made[0]).clone())
            return made

        monkeypatch.setattr(pipe, "prepare_latents", prepared, raising=False)
        self.how = {"callback_on_step_end": self.modern}
        if "callback_on_step_end" not in inspect.signature(pipe.__call__).parameters:
            self.how = {"callback": lambda i, t, latents: self.seen.append(latents.clone())}

    def modern(self, pipe, index, timestep, kwargs):
        self.seen.append(kwargs["latents"].clone())
        return kwargs


def levels_of(scheduler):
    """How much picture and how much noise is in each state, by the scheduler's tables."""
    name = type(scheduler).__name__
    if "DDIM" in name:
        kept = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps]
        return [(k**0.5, (1 - k) ** 0.5) for k in (*kept, float(scheduler.final_alpha_cumprod))]
    sigmas = [float(s) for s in scheduler.sigmas]
    if name == "EulerDiscreteScheduler":
        return [(1.0, s) for s in sigmas]
    return [(s, 1 - s) if scheduler.config.invert_sigmas else (1 - s, s) for s in sigmas]


def x0_between(before, after, level, level_after):
    """x = a x0 + s e and x' = a' x0 + s' e, for a sampler that keeps to one x0 and one e within a step."""
    (a, s), (a_after, s_after) = level, level_after
    return (s * after.double() - s_after * before.double()) / (s * a_after - s_after * a)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def watched(family, make, tmp_path, monkeypatch):
    """A family's run, as it is and watched."""
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
            result = tiny.run(pipe, **states.how)
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


def test_a_watched_run_is_the_run(watched):
    run, tiny = watched["run"], watched["tiny"]
    # The same to the last bit,
    assert np.array_equal(np.asarray(watched["plain"]), np.asarray(watched["result"]))
    # a picture for each step, of the right space and shape,
    height, width = tiny.latents[-2:]
    scale = run.manifest()["decoder"]["scale"]
    assert [(p.index, p.total, p.show) for p in run.pictures] == [(i + 1, STEPS, "denoised") for i in range(STEPS)]
    assert {p.pixels.shape for p in run.pictures} == {(1, 1, height * scale, width * scale, 3)}
    manifest = run.manifest()
    assert (manifest["space"], manifest["state"], manifest["notes"]) == (tiny.space, "finished", [])
    assert manifest["host"]["pipeline"] == type(watched["pipe"]).__name__
    assert manifest["sampler"]["seed"] == 3
    assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
    # of latents that are unpacked as the pipeline does it,
    shapes = {tuple(saved.denoised.shape) for saved in latents_of(run)}
    assert {(*shape[:2], *(() if len(shape) == 5 else (1,)), *shape[2:]) for shape in shapes} == {(1, *tiny.latents)}
    # which believe what the states before and after each step say,
    pipe, seen = watched["pipe"], watched["states"].seen
    assert len(seen) == STEPS + 1
    levels = levels_of(pipe.scheduler)
    for saved, states, between in zip(
        latents_of(run), itertools.pairwise(seen), itertools.pairwise(levels), strict=True
    ):
        wanted = tiny.unpack(pipe, x0_between(*states, *between).float())
        torch.testing.assert_close(saved.denoised.view(wanted.shape), wanted, rtol=2e-3, atol=2e-3)
        noisy = tiny.unpack(pipe, states[0])
        torch.testing.assert_close(saved.noisy.view(wanted.shape), noisy.to(saved.noisy.dtype))
    # and end where the VAE begins.
    (z,) = watched["z"]
    if watched["family"] == "Kandinsky5":  # leaves out the shift of its VAE; no other does
        z = z + SPACES[tiny.space].shift
    last = latents_of(run)[-1].denoised
    torch.testing.assert_close(last, SPACES[tiny.space].to_model(z).view(last.shape), rtol=2e-3, atol=2e-3)


# Pipelines of these families with ways of their own.


def of_parts(kind, family, **more):
    """A pipeline of another class from a family's parts."""

    def make(parts):
        given = inspect.signature(getattr(diffusers, kind).__init__).parameters
        return getattr(diffusers, kind)(**{name: part for name, part in {**parts, **more}.items() if name in given})

    return kind, family, make


def picture_of(height, width):
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


HALF = {"strength": 0.5}
RELATIVES = {
    "image to image, packed": (*of_parts("FluxImg2ImgPipeline", "Flux"), {"image": picture_of(32, 48), **HALF}, 2),
    "image to image, packed, Qwen": (
        *of_parts("QwenImageImg2ImgPipeline", "QwenImage"),
        {"image": picture_of(32, 48), **HALF},
        2,
    ),
    "video to video": (*of_parts("WanVideoToVideoPipeline", "Wan"), {"video": [picture_of(32, 48)] * 9, **HALF}, 2),
    "image to video, the first frame given": (
        *of_parts("LTXImageToVideoPipeline", "LTX"),
        {"image": picture_of(64, 96)},
        4,
    ),
    "tokens besides those of the video": (
        *of_parts("LTXConditionPipeline", "LTX"),
        {"image": picture_of(64, 96), "frame_index": 8},
        4,
    ),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_of_a_family_is_watched_as_well(make, name):
    kind, family, build, more, steps = RELATIVES[name]
    tiny, pipe = make(family)
    if not hasattr(diffusers, kind):
        pytest.skip(f"diffusers {diffusers.__version__} has no {kind}")
    relative = build(pipe.components)
    relative.set_progress_bar_config(disable=True)
    takes = inspect.signature(relative.__call__).parameters
    asked = {key: value for key, value in {**tiny.call(), **more}.items() if key in takes}

    def sample():
        made = relative(
            num_inference_steps=STEPS, generator=torch.Generator().manual_seed(3), output_type="np", **asked
        )
        return np.asarray(getattr(made, tiny.output))

    plain = sample()
    with watch(relative, screen="off") as run:
        result = sample()
    assert np.array_equal(plain, result)
    assert [(p.index, p.total, p.show) for p in run.pictures] == [(i + 1, steps, "denoised") for i in range(steps)]
    assert {picture.shown[0] / picture.shown[1] for picture in run.pictures} == {1.5}
    assert run.notes == []
