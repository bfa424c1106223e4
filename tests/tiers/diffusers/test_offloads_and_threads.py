"""Pipelines whose models are offloaded or compiled, and several pipelines on threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from safelight.hosts.diffusers import watch

pytestmark = pytest.mark.filterwarnings("ignore")


def accelerate():
    return pytest.importorskip("accelerate")


# `enable_sequential_cpu_offload` gives each of these models such hooks.
OFFLOADS = {
    "model": lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    "sequential": lambda pipe: [accelerate().cpu_offload(part, torch.device("cpu")) for part in (pipe.unet, pipe.vae)],
    "groups": lambda pipe: pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
    "compiled": lambda pipe: setattr(pipe, "unet", torch.compile(pipe.unet, backend="eager")),
    "compiled in place": lambda pipe: pipe.unet.compile(backend="eager"),
}


@pytest.fixture
def own_sd1():
    """A function that returns a pipeline of Stable Diffusion that no other test uses."""
    return tiny.FAMILIES["StableDiffusion"].create


@pytest.mark.parametrize("how", OFFLOADS)
def test_a_pipeline_that_is_offloaded_or_compiled_is_watched(own_sd1, how, tmp_path):
    accelerate()
    row, pipe = tiny.FAMILIES["StableDiffusion"], own_sd1()
    expected = row.run(pipe)
    OFFLOADS[how](pipe)
    plain = row.run(pipe)
    with watch(pipe, tmp_path, screen="off") as run:
        result = row.run(pipe)
    assert np.array_equal(plain, result)
    assert np.allclose(expected, result, atol=1e-5)
    assert [(p.index, p.show) for p in run.pictures] == [(i + 1, "denoised") for i in range(tiny.STEPS)]
    assert (run.manifest()["space"], run.manifest()["state"], run.notes) == ("sd1", "finished", [])


def test_several_pipelines_are_watched_on_threads(own_sd1, make, tmp_path):
    """Each thread has a pipeline of its own, some of other families, and a block of its own."""
    rows = [tiny.FAMILIES[name] for name in ("StableDiffusion", "Flux", "StableDiffusion", "StableDiffusion3")]
    pipes = [own_sd1(), make("Flux")[1], own_sd1(), make("StableDiffusion3")[1]]
    plain = [row.run(pipe) for row, pipe in zip(rows, pipes, strict=True)]

    def sample(number):
        with watch(pipes[number], tmp_path / str(number), screen="off") as run:
            return rows[number].run(pipes[number]), run

    with ThreadPoolExecutor(len(rows)) as pool:
        found = [each.result() for each in [pool.submit(sample, number) for number in range(len(rows))]]
    for number, (result, run) in enumerate(found):
        assert np.array_equal(plain[number], result)
        assert [p.index for p in run.pictures] == [1, 2, 3, 4]
        assert len(run.runs) == 1
        assert run.manifest()["space"] == rows[number].space
        assert run.folder == tmp_path / str(number) / "steps_00001"


def test_several_pipelines_in_one_block_are_watched_on_threads(own_sd1, make, tmp_path):
    rows = [tiny.FAMILIES[name] for name in ("StableDiffusion", "Flux", "StableDiffusion")]
    pipes = [own_sd1(), make("Flux")[1], own_sd1()]
    plain = [row.run(pipe) for row, pipe in zip(rows, pipes, strict=True)]
    with watch(pipes, tmp_path, screen="off") as watched, ThreadPoolExecutor(len(rows)) as pool:
        calls = [pool.submit(row.run, pipe) for row, pipe in zip(rows, pipes, strict=True)]
        results = [call.result() for call in calls]
    assert all(map(np.array_equal, plain, results))
    assert sorted(run.run.space for run in watched.runs) == ["flux1", "sd1", "sd1"]
    assert [[p.index for p in run.pictures] for run in watched.runs] == [[1, 2, 3, 4]] * 3
    assert {run.folder.parent for run in watched.runs} == {tmp_path}
