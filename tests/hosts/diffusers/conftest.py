"""Pipelines to watch, each made once, and a check that nothing of a watching is left."""

import functools
import sys
import threading
from pathlib import Path

import diffusers
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import tiny_pipelines as tiny


def is_there(name):
    try:
        return hasattr(diffusers, name)
    except RuntimeError:  # what it is made of cannot be imported
        return False


@functools.cache
def pipeline_of(name):
    """A family's pipeline."""
    family = tiny.FAMILIES[name]
    if missing := [need for need in family.needs if not is_there(need)]:
        pytest.skip(f"diffusers {diffusers.__version__} has no {', '.join(missing)}")
    torch.manual_seed(0)
    try:
        pipe = family.make()
    except ImportError as error:  # a stand-in for a class whose library is not installed
        pytest.skip(str(error).strip().splitlines()[0])
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def make():
    """Gives the family's row and its pipeline."""
    return lambda name: (tiny.FAMILIES[name], pipeline_of(name))


@pytest.fixture
def sd1(make):
    """Stable Diffusion's pipeline, with the scheduler that it is made with."""
    pipe = make("StableDiffusion")[1]
    scheduler = pipe.scheduler
    yield pipe
    pipe.scheduler = scheduler


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("safelight")] == []


@pytest.fixture(autouse=True, scope="session")
def one_core_is_enough():
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
