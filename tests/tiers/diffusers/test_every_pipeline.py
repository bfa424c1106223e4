"""Every pipeline that has a row: the same result, a picture for each step, x0 as its VAE gets it, and stop."""

import functools

import diffusers
import numpy as np
import pytest
import torch
from pipeline_rows import ROWS
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import RunError
from safelight.hosts.diffusers import watch
from safelight.hosts.diffusers.copies import schedulers_of
from safelight.hosts.diffusers.facts import autoencoder_of
from safelight.hosts.diffusers.interrupt import reads_interrupt
from safelight.preview.saved_run import SavedRun

from ... import older

pytestmark = pytest.mark.filterwarnings("ignore")


def attributes_of(pipe):
    """The names of the attributes of a pipeline and of its parts."""
    return [set(vars(part)) for part in (pipe, *pipe.components.values()) if hasattr(part, "__dict__")]


def same(first, second):
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return np.array_equal(np.asarray(first), np.asarray(second), equal_nan=True)


def steps_of(run):
    return [[(picture.index, picture.total) for picture in each.pictures] for each in run.runs]


def first_latents_of(decode, decoded):
    """Returns the method `decode` of a VAE, which also adds the latents of its first call to a list."""

    def decoding(latents, *args, **kwargs):
        decoded.append(latents.clone())
        return decode(latents, *args, **kwargs)

    return decoding


@pytest.mark.parametrize("tiny", ROWS, ids=lambda tiny: tiny.kind)
def test_a_pipeline_is_watched_and_stopped(tiny, tmp_path, monkeypatch):
    older.expect(older.diffusers_has(tiny.kind), "diffusers", diffusers.__version__, tiny.kind)
    pipe = tiny.create()
    plain = tiny.run(pipe)
    attributes, decoded, vae = attributes_of(pipe), [], autoencoder_of(pipe)
    with monkeypatch.context() as patch:
        if vae is not None:
            patch.setattr(vae, "decode", first_latents_of(vae.decode, decoded))
        with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
            result = tiny.run(pipe)
    # The result is bit-identical, and nothing is left.
    assert same(plain, result)
    assert attributes_of(pipe) == attributes
    # There is a picture of x0 for each step, with the right space and shape.
    assert steps_of(run) == [[(step + 1, steps) for step in range(steps)] for steps in tiny.steps]
    assert {picture.show for each in run.runs for picture in each.pictures} == {tiny.show}
    manifest = run.manifest()
    assert (manifest["space"], manifest["state"]) == (tiny.space, "finished")
    assert [note.startswith(tiny.notes) for note in run.notes] == [True] * len(tiny.notes), run.notes
    saved = SavedRun.open(run.folder).latents(tiny.steps[-1])
    last = saved.denoised if tiny.show == "denoised" else saved.noisy
    if tiny.space in SPACES:
        last = SPACES[tiny.space].unpack(last)
    channels, frames, height, width = tiny.latents
    assert tuple(last.shape[:2] + last.shape[-2:]) == (1, channels, height, width)
    assert last.numel() == channels * frames * height * width
    # The last x0 is what the VAE decodes.
    if tiny.decodes_x0 and vae is not None:
        expected = SPACES[tiny.space].to_model(decoded[0].float())
        if len(expected) > 1:  # frames in the batch
            expected = expected.movedim(0, 1)
        torch.testing.assert_close(last.reshape(expected.shape), expected, rtol=2e-3, atol=2e-3, equal_nan=True)
    if tiny.show == "denoised":  # else no scheduler is called
        stop_in_the_second_step(tiny, pipe, plain)


def stop_in_the_second_step(tiny, pipe, plain):
    """The remaining steps are left out, and the pipeline decodes what it has; or `stop` says why it cannot."""
    errors, own_steps, schedulers = [], [], schedulers_of(pipe)

    def stopping(step, *args, **kwargs):
        own_steps.extend(scheduler for scheduler in schedulers if step.__self__ is scheduler)
        of_sound = own_steps and all(
            step.__self__ is not scheduler for scheduler in schedulers
        )  # a copy of the own one
        if run.runs and not errors and not of_sound:
            try:
                run.stop()
            except RunError as error:
                errors.append(error)
        return step(*args, **kwargs)

    methods = [scheduler.step for scheduler in schedulers]
    for scheduler, method in zip(schedulers, methods, strict=True):
        scheduler.step = functools.wraps(method)(functools.partial(stopping, method))
    try:
        with watch(pipe, screen="off") as run:
            stopped = tiny.run(pipe)
    finally:
        for scheduler in schedulers:
            del scheduler.step
    first = run.runs[0]
    expected = ("interrupted", 2) if tiny.can_stop else ("finished", tiny.steps[0])
    assert (first.state, len(first.pictures)) == expected
    assert bool(errors) != tiny.can_stop
    assert np.asarray(stopped).shape == np.asarray(plain).shape


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        ("FluxPipeline", True),
        ("WanPipeline", True),
        ("OmniGenPipeline", False),
        ("HeliosPyramidPipeline", False),
        ("AnyFlowFARPipeline", False),
        ("StableDiffusionControlNetXSPipeline", False),
    ],
)
def test_a_pipeline_whose_loop_only_writes_its_flag_does_not_read_it(kind, reads):
    older.expect(older.diffusers_has(kind), "diffusers", diffusers.__version__, kind)
    pipe = object.__new__(getattr(diffusers, kind))
    assert not reads_interrupt(pipe)
    vars(pipe)["_interrupt"] = False
    assert reads_interrupt(pipe) is reads
