"""Sinks, decoders and pipelines whose behavior a test controls. Every wait has a time limit."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safelight.decoders.catalogue import Candidate
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.base import Net
from safelight.preview.cadence import Cadence
from safelight.preview.decode.run_decoder import RunDecoder
from safelight.preview.mailbox import Mailbox
from safelight.preview.picture import DecodedPicture
from safelight.preview.pipeline import LatentSchedule, Pipeline, SinkSchedule
from safelight.preview.run import Run
from safelight.preview.sinks.base import Delivery, Sink
from safelight.preview.sinks.latent_files import LatentFiles
from safelight.preview.sinks.page import Page
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.step import Step, StepInfo

WAIT_S = 20.0


class Gate:
    """Blocks threads while it is shut. `reached` is set when a thread arrives."""

    def __init__(self):
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def shut(self):
        self.reached.clear()
        self._open.clear()

    def open(self):
        self._open.set()

    def pass_through(self):
        self.reached.set()
        if not self._open.wait(WAIT_S):
            raise TimeoutError("the gate stayed shut")

    def wait_until_reached(self):
        assert self.reached.wait(WAIT_S), "no thread reached the gate"


class Recorder(Sink):
    """A sink that records its calls, and fails at the steps in `fails_at`."""

    name = "recorder"

    def __init__(
        self,
        *,
        every_step=True,
        awaited=True,
        name="recorder",
        fails_at=(),
        fails_to_open=False,
        fails_to_close=False,
    ):
        self.delivery, self.name = Delivery((every_step, awaited)), name
        self.gate = Gate()
        self.pictures = []
        self.seen = []
        self.states = []
        self.abandoned_with = []
        self.abandoned = threading.Event()
        self.opened = 0
        self._fails_at, self._fails_to_open, self._fails_to_close = fails_at, fails_to_open, fails_to_close

    @property
    def steps(self):
        return [picture.index for picture in self.pictures]

    def open(self):
        self.opened += 1
        if self._fails_to_open:
            raise PermissionError("no way in")

    def show(self, picture):
        self.gate.pass_through()
        self.seen.append(picture.index)
        if picture.index in self._fails_at:
            raise OSError(f"disk full at {picture.index}")
        self.pictures.append(picture)

    def close(self, state):
        self.states.append(state)
        if self._fails_to_close:
            raise OSError("no way out")

    def abandon(self, state):
        self.abandoned_with.append(state)
        self.abandoned.set()


class FirstChannels(Net):
    """A net that shows the first three channels. It counts its calls, waits at its gate, and fails in some calls."""

    def __init__(self, fails_at=()):
        super().__init__()
        self.calls = 0
        self.gate = Gate()
        self._fails_at = fails_at

    def forward(self, latents):
        self.calls += 1
        self.gate.pass_through()
        if self._fails_at == "always" or self.calls in self._fails_at:
            raise RuntimeError("out of memory")
        return latents[:, :3]


def candidate_of(net, name="first-channels", space="sd1"):
    card = Card(name=name, space=space, kind="test", source="a test")
    return Candidate(card, lambda: Decoder(card, net))


def step_of(index, total=10, value=None, **fields):
    """A step whose picture is gray; by default the gray level is the index."""
    level = (index % 256) / 255 if value is None else value
    fields = {"sigma": 1.0 / index, "denoised": torch.full((1, 4, 2, 3), level)} | fields
    return Step(index=index, total=total, **fields)


def picture_of(index=1, total=10, height=4, width=6, **fields):
    """A decoded picture whose gray level is 20 times its index."""
    pixels = np.full((1, 1, height, width, 3), index * 20 % 256, np.uint8)
    step = {"index": index, "total": total, "sigma": 0.5, "show": "denoised", "at_s": 0.25}
    step |= {name: fields.pop(name) for name in ("sigma", "show", "at_s") if name in fields}
    decoder = fields.pop("decoder", "a-decoder")
    card = Card(name=decoder, space="sd1", kind="full" if decoder == "full" else "test", source="a test")
    defaults = {"pixels": pixels, "shown": (width * 8, height * 8), "card": card, "decode_ms": 1.5}
    return DecodedPicture(step=StepInfo(**step), **(defaults | fields))


@contextmanager
def open_pipeline(
    *all_sinks, net=None, candidates=None, every=None, run=None, space="sd1", state="finished", **options
):
    """A pipeline with these sinks, which is closed at the end. `every`: distance between the steps of a sink."""
    run = run or Run()
    net = net or FirstChannels()
    record = [sink for sink in all_sinks if isinstance(sink, RunFolder | Page)]
    files = [sink for sink in all_sinks if isinstance(sink, LatentFiles)]
    sinks = [sink for sink in all_sinks if sink not in record + files]
    if candidates is None:
        candidates = [candidate_of(net)]
    find = candidates if callable(candidates) else lambda: candidates
    cadences = {}

    def cadence_of(sink):
        n = (every or {}).get(sink, 1)
        return cadences.setdefault(n, Cadence(n))

    abandon = [sink.abandon for sink in (*sinks, *record) if hasattr(sink, "abandon")]
    pipeline = Pipeline(
        run,
        RunDecoder(SPACES[space], find),
        [SinkSchedule(sink, cadence_of(sink)) for sink in sinks],
        record=[SinkSchedule(sink, cadence_of(sink)) for sink in record],
        latents=LatentSchedule(files[0], cadence_of(files[0])) if files else None,
        abandon=abandon,
        # On a busy machine the worker may be late with each step, but no test depends on how late all of them are.
        **{"mailbox": Mailbox(patience_s=WAIT_S, clock=lambda: 0.0)} | options,
    )
    try:
        yield pipeline
    finally:
        for gate in (net.gate, *(sink.gate for sink in sinks if hasattr(sink, "gate"))):
            gate.open()
        pipeline.close(state, WAIT_S)


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def recorder():
    """The class of a sink that records its calls."""
    return Recorder


@pytest.fixture
def first_channels():
    """The class of a net that shows the first three channels."""
    return FirstChannels


@pytest.fixture
def candidate():
    """A function that returns a candidate with a given net."""
    return candidate_of


@pytest.fixture
def step():
    """A function that returns a step with gray latents."""
    return step_of


@pytest.fixture
def picture():
    """A function that returns a gray picture."""
    return picture_of


@pytest.fixture
def pipeline():
    """A context manager that opens a pipeline with given sinks and closes it."""
    return open_pipeline


@pytest.fixture
def clock():
    """A clock that a test sets."""
    return Clock()


@pytest.fixture
def wait_s():
    """Longest time in seconds that a test waits for another thread."""
    return WAIT_S
