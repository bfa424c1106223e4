"""Pipelines to watch, each created once, and a check that watching leaves no thread."""

import functools
import sys
import threading
from pathlib import Path

import diffusers
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import tiny_pipelines as tiny

from ... import older


@functools.cache
def pipeline_of(name):
    """Returns the pipeline of a family."""
    family = tiny.FAMILIES[name]
    older.expect(older.diffusers_has(family.kind), "diffusers", diffusers.__version__, family.kind)
    try:
        return family.create()
    except ImportError as error:  # a stand-in for a class whose library is not installed
        pytest.skip(str(error).strip().splitlines()[0])


@pytest.fixture(scope="session")
def make():
    """Returns a function that returns a family's row and its pipeline."""
    return lambda name: (tiny.FAMILIES[name], pipeline_of(name))


@pytest.fixture
def sd1(make):
    """The pipeline of Stable Diffusion, with its original scheduler."""
    pipe = make("StableDiffusion")[1]
    scheduler = pipe.scheduler
    yield pipe
    pipe.scheduler = scheduler


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("safelight")]
    for thread in ours:  # the worker may tidy up after the files of its run are written
        thread.join(10)
    assert [thread.name for thread in ours if thread.is_alive()] == []


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Models this small are slower with several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
