"""A base and the refiner that continues its latents are one entry of the library, with two runs."""

import gc
import json
import re
import weakref
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from safelight.hosts.diffusers import watch
from safelight.hosts.diffusers.call_arguments import CallArguments
from safelight.hosts.diffusers.refined_runs import RefinedRuns
from safelight.preview.manifest import read_manifest
from safelight.preview.run_library import find_runs

pytestmark = pytest.mark.filterwarnings("ignore")
SPLIT = 0.5
STEPS = 4


@pytest.fixture(scope="module")
def base(make):
    return make("StableDiffusionXL")[1]


@pytest.fixture(scope="module")
def refiner(base):
    """A pipeline with a scheduler of its own, and the parts of the base."""
    scheduler = type(base.scheduler).from_config(base.scheduler.config)
    parts = {**base.components, "scheduler": scheduler}
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def call(make):
    """Arguments of both calls."""
    return {**make("StableDiffusionXL")[0].call(), "num_inference_steps": STEPS}


@pytest.fixture
def sample(base, call):
    """Samples the base until `end`; returns its latents."""
    return lambda seed=3, end=SPLIT: (
        base(**call, denoising_end=end, output_type="latent", generator=torch.Generator().manual_seed(seed)).images
    )


@pytest.fixture
def refine(refiner, call):
    """Samples the refiner from `start` on; returns its picture or latents."""

    def refine(latents, start=SPLIT, output_type="np", **more):
        sizes = {"height", "width"}
        arguments = {name: value for name, value in call.items() if name not in sizes}
        return refiner(
            **{**arguments, **more},
            image=latents,
            denoising_start=start,
            output_type=output_type,
            generator=torch.Generator().manual_seed(4),
        ).images

    return refine


def data_in(folder):
    page = (folder / "index.html").read_text("utf-8")
    return json.loads(re.search(r'id="safelight">(.*?)</script>', page, re.DOTALL)[1])


def test_in_a_store_the_refiner_is_in_the_folder_of_the_base(base, refiner, sample, refine, memory):
    with watch([base, refiner], "memory://bucket/runs", screen="off") as watched:
        refine(sample())
    first, second = watched.runs
    assert first.address == f"memory://bucket/runs/steps_{first.run.id[:8]}"
    assert second.address == f"{first.address}/run_002"
    root = first.address.removeprefix("memory:/")
    copied = {path.removeprefix(f"{root}/"): memory.cat_file(path) for path in memory.find(root)}
    saved = {path.relative_to(first.folder).as_posix(): path.read_bytes() for path in first.folder.rglob("*.*")}
    assert copied == saved
    assert {"run.json", "run_002/run.json", "run_002/step_0001.png"} <= copied.keys()
    assert second.run.id.encode() in copied["index.html"]


def test_a_refiner_continues_in_the_folder_of_the_base(base, refiner, sample, refine, tmp_path):
    plain = refine(sample())
    with watch([base, refiner], tmp_path, screen="off") as watched:
        result = refine(sample())
    assert np.array_equal(plain, result)
    first, second = watched.runs
    assert (first.folder, second.folder) == (tmp_path / "steps_00001", tmp_path / "steps_00001/run_002")
    manifests = [read_manifest(run.folder) for run in watched.runs]
    assert [manifest["host"]["pipeline"] for manifest in manifests] == [
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
    ]
    assert [(manifest["state"], manifest["notes"]) for manifest in manifests] == [("finished", [])] * 2
    # The noise levels go on where those of the base end.
    sigmas = [manifest["sampler"]["sigmas"] for manifest in manifests]
    assert [len(levels) for levels in sigmas] == [3, 3]
    assert sigmas[0][-1] == sigmas[1][0]
    # One page has both, and a library finds both.
    assert [run["id"] for run in data_in(first.folder)["runs"]] == [manifest["id"] for manifest in manifests]
    assert {*find_runs(tmp_path)} == {first.folder, second.folder}
    assert [path.name for path in tmp_path.iterdir()] == ["steps_00001"]


def test_refiners_after_several_bases_find_their_own(base, refiner, sample, refine, tmp_path):
    with watch([base, refiner], tmp_path, screen="off") as watched:
        first, second = sample(seed=1), sample(seed=2)
        refine(first)
        refine(second.double().clone())
        refine(first)
    assert [run.folder.relative_to(tmp_path).as_posix() for run in watched.runs] == [
        "steps_00001",
        "steps_00002",
        "steps_00001/run_002",
        "steps_00002/run_002",
        "steps_00001/run_003",
    ]


def test_a_chain_of_three_is_one_entry(base, refiner, sample, refine, tmp_path):
    with watch([base, refiner], tmp_path, screen="off") as watched:
        latents = sample(end=0.25)
        latents = refine(latents, start=0.25, output_type="latent", denoising_end=0.75)
        refine(latents, start=0.75)
    assert [run.folder.name for run in watched.runs] == ["steps_00001", "run_002", "run_003"]
    assert len(data_in(watched.runs[0].folder)["runs"]) == 3


def test_other_latents_have_a_folder_of_their_own(base, refiner, sample, refine, tmp_path):
    with watch([base, refiner], tmp_path, screen="off") as watched:
        refine(sample() + 1)
        finished = sample(end=None)
        refine(finished, start=0.75)
    assert [run.folder.name for run in watched.runs] == [f"steps_0000{number}" for number in range(1, 5)]


def test_a_refiner_whose_base_was_deleted_has_a_folder_of_its_own(base, refiner, sample, refine, tmp_path):
    with watch([base, refiner], tmp_path, screen="off") as watched:
        latents = sample()
        watched.runs[0].settle()
        watched.folder.rename(tmp_path / "elsewhere")
        refine(latents)
    assert watched.folder.parent == tmp_path


def test_without_files_a_chain_has_two_runs(base, refiner, sample, refine):
    with watch((base, refiner), screen="off") as watched:
        refine(sample())
    assert [len(run.pictures) for run in watched.runs] == [2, 2]
    assert watched.folder is None


@pytest.mark.parametrize(("ended", "begun"), [(torch.float16, torch.float32), (torch.float32, torch.bfloat16)])
def test_a_refiner_with_another_type_and_one_item_of_a_batch_is_recognized(ended, begun):
    latents, group, refined = torch.randn(3, 4, 2, 2).to(ended), SimpleNamespace(exists=True), RefinedRuns()
    refined.add(CallArguments(denoising_end=SPLIT), latents, group)
    start = CallArguments(denoising_start=SPLIT)
    assert refined.group_of(start, latents[1:2].to(begun).repeat(2, 1, 1, 1)) is group
    assert refined.group_of(start, latents[1:2].to(begun) * 2) is None
    assert refined.group_of(CallArguments(), latents.to(begun)) is None


def test_the_latents_are_freed_with_the_block(base, refiner, sample, tmp_path):
    with watch([base, refiner], tmp_path, screen="off"):
        latents = weakref.ref(sample())
        assert latents() is not None
    gc.collect()
    assert latents() is None


def test_an_empty_list_cannot_be_watched():
    with pytest.raises(TypeError, match=r"expected a pipeline of diffusers, .* a list of them"), watch([]):
        pass


def test_a_block_without_a_call_names_both_pipelines(base, refiner):
    with watch([base, refiner], screen="off") as watched:
        pass
    assert "no sampler call of StableDiffusionXLPipeline and StableDiffusionXLImg2ImgPipeline" in watched.notes[0]
