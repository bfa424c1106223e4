"""A pipeline in a background thread: it yields previews, then its image, and leaves no thread."""

import copy
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.errors import RunError
from safelight.hosts.gradio import background_call
from safelight.hosts.gradio.background_call import BackgroundCall, enlarged, first_image, previews
from safelight.preview.picture import DecodedPicture
from safelight.preview.step import StepInfo

WAIT_S = 20.0


def picture_of(index, total=4, shape=(1, 1, 8, 12), **fields):
    pixels = np.full((*shape, 3), index * 20, np.uint8)
    step = StepInfo(index=index, total=total, sigma=fields.pop("sigma", 0.5), at_s=0.0)
    card = Card(name=fields.pop("decoder", "d"), space="sd1", kind="test")
    return DecodedPicture(step=step, card=card, **({"pixels": pixels, "shown": (96, 64), "decode_ms": 1.0} | fields))


class FakePipeline:
    """Shows a step whenever the semaphore `go_on` is released, unless it must stop; returns or raises `result`."""

    def __init__(self, steps=3, result="result", can_stop=True):
        self.steps, self.result, self.can_stop = steps, result, can_stop
        self.go_on = threading.Semaphore(0)
        self.screen, self.options, self.arguments = None, None, None
        self.stopping = self.restored = self.began = False
        self.steps_shown = 0

    @contextmanager
    def watch(self, pipeline, *, screen, **options):
        assert pipeline is self
        if options.get("show") == "nonsense":
            raise ValueError("show: expected one of denoised, noisy")
        self.screen, self.options = screen, options
        try:
            yield SimpleNamespace(stop=self.stop)
        finally:
            self.restored = True

    def stop(self):
        if not self.can_stop:
            raise RunError("this pipeline cannot be stopped")
        self.stopping = self.began
        return self.began

    def __call__(self, *args, **kwargs):
        self.arguments = args, kwargs
        self.screen.open()
        for index in range(1, self.steps + 1):
            assert self.go_on.acquire(timeout=WAIT_S)
            self.began = True
            if self.stopping:
                break
            self.steps_shown = index
            self.screen.show(picture_of(index, self.steps))
        self.screen.close("finished")
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def pipeline(monkeypatch):
    def pipeline(**settings):
        fake = FakePipeline(**settings)
        monkeypatch.setattr(background_call, "watch", fake.watch)
        return fake

    return pipeline


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "safelight-pipeline"]


def drain(generator):
    """Returns the remaining elements of a generator, and its return value."""
    elements = []
    try:
        while True:
            elements.append(next(generator))
    except StopIteration as stop:
        return elements, stop.value


def test_previews_yields_the_newest_pictures_and_then_the_final_image(pipeline):
    final = Image.new("RGB", (96, 64), (1, 2, 3))
    pipe = pipeline(result=SimpleNamespace(images=[final]))
    steps = previews(pipe, "a lighthouse", num_inference_steps=3, watching={"out": "runs"})
    images = []
    for index in (1, 2, 3):
        pipe.go_on.release()
        images.append(next(steps))
        assert images[-1].getpixel((5, 5)) == (20 * index,) * 3
    rest, result = drain(steps)
    assert {image.size for image in (*images, *rest)} == {(96, 64)}
    assert [image.getpixel((0, 0)) for image in rest] == [(1, 2, 3)]
    assert result is pipe.result
    assert pipe.arguments == (("a lighthouse",), {"num_inference_steps": 3})
    assert pipe.options == {"out": "runs"}
    assert pipe.restored


class Scheduler:
    """A scheduler that two pipelines may share."""


@pytest.mark.parametrize("shares", ["pipeline", "scheduler"])
def test_a_second_user_of_a_pipeline_waits_for_the_first(pipeline, monkeypatch, shares):
    pipe = pipeline(steps=2)
    pipe.scheduler = Scheduler()
    other = pipe if shares == "pipeline" else copy.copy(pipe)
    monkeypatch.setattr(background_call, "watch", lambda which, **options: which.watch(which, **options))
    first = previews(pipe)
    pipe.go_on.release()
    next(first)
    second_has_begun = threading.Event()
    results = []

    def use():
        steps = previews(other)
        results.append(next(steps))
        second_has_begun.set()
        results.append(drain(steps))

    second = threading.Thread(target=use)
    second.start()
    assert not second_has_begun.wait(0.3)
    assert not pipe.restored
    pipe.go_on.release(3)
    assert drain(first)[1] == "result"
    second.join(WAIT_S)
    assert second_has_begun.is_set()
    assert results[-1][1] == "result"


def test_after_an_error_of_watch_the_pipeline_is_free(pipeline):
    pipe = pipeline(steps=1)
    with pytest.raises(ValueError, match="show"):
        next(previews(pipe, watching={"show": "nonsense"}))
    pipe.go_on.release()
    assert drain(previews(pipe))[1] == "result"


def test_a_slow_consumer_gets_only_the_newest_picture(pipeline):
    pipe = pipeline(steps=5, result=None)
    call = BackgroundCall(pipe, (), {}, {})
    pipe.go_on.release(5)
    call._thread.join(WAIT_S)
    assert [picture.index for picture in call.pictures()] == [5]
    assert call.result() is None


def test_an_exception_of_the_pipeline_is_raised_after_its_pictures(pipeline):
    pipe = pipeline(steps=1, result=MemoryError("no memory left"))
    steps = previews(pipe)
    pipe.go_on.release()
    next(steps)
    with pytest.raises(MemoryError, match="no memory left"):
        next(steps)
    assert pipe.restored


def test_closing_the_generator_stops_the_pipeline(pipeline):
    pipe = pipeline(steps=100)
    steps = previews(pipe)
    pipe.go_on.release()
    next(steps)
    pipe.go_on.release(100)
    steps.close()
    assert pipe.steps_shown < 100 or pipe.stopping
    assert pipe.restored


def test_a_stopped_run_yields_no_final_image(pipeline):
    pipe = pipeline(steps=100, result=SimpleNamespace(images=[Image.new("RGB", (4, 4))]))
    call = BackgroundCall(pipe, (), {}, {})
    pictures = call.pictures()
    pipe.go_on.release()
    assert next(pictures).index == 1
    call.stop()
    pipe.go_on.release()
    assert list(pictures) == []
    assert call.stopped
    assert pipe.steps_shown == 1
    call.close()


def test_a_stop_before_the_first_step_takes_effect_at_the_first_step(pipeline):
    pipe = pipeline(steps=100)
    call = BackgroundCall(pipe, (), {}, {})
    call.stop()
    pictures = call.pictures()
    pipe.go_on.release()
    assert next(pictures).index == 1
    pipe.go_on.release()
    assert list(pictures) == []
    assert pipe.steps_shown <= 2
    call.close()


def test_a_pipeline_that_cannot_be_stopped_raises_and_runs_to_its_end(pipeline):
    pipe = pipeline(steps=2, can_stop=False)
    call = BackgroundCall(pipe, (), {}, {})
    with pytest.raises(RunError, match="cannot be stopped"):
        call.stop()
    assert not call.stopped
    pipe.go_on.release(2)
    call.close()
    assert pipe.steps_shown == 2


def test_a_wrong_option_is_an_error_before_the_pipeline_is_called(pipeline):
    pipe = pipeline()
    with pytest.raises(ValueError, match="expected one of denoised, noisy"):
        next(previews(pipe, watching={"show": "nonsense"}))
    assert pipe.arguments is None


@pytest.mark.parametrize(
    ("shape", "shown", "size"),
    [
        ((1, 1, 8, 12), (96, 64), (96, 64)),
        ((1, 1, 8, 12), (3000, 2000), (1024, 683)),
        ((1, 3, 8, 12), (96, 64), (96, 64)),
        ((4, 1, 8, 12), (96, 64), (200, 136)),
    ],
)
def test_a_picture_is_enlarged_to_the_size_of_the_final_image_up_to_a_limit(shape, shown, size):
    assert enlarged(picture_of(1, shape=shape, shown=shown)).size == size


RED = Image.new("RGB", (6, 4), (255, 0, 0))
GREEN = Image.new("RGB", (6, 4), (0, 255, 0))
FLOATS = np.asarray(GREEN, np.float32) / 255


@pytest.mark.parametrize(
    ("output", "color"),
    [
        (SimpleNamespace(images=[GREEN, RED]), (0, 255, 0)),
        (SimpleNamespace(images=np.stack([FLOATS, 0 * FLOATS])), (0, 255, 0)),
        (SimpleNamespace(frames=[[RED, GREEN, RED]]), (0, 255, 0)),
        (SimpleNamespace(frames=np.stack([0 * FLOATS, FLOATS, 0 * FLOATS])[None]), (0, 255, 0)),
        (([GREEN],), (0, 255, 0)),
        (SimpleNamespace(images=[GREEN.convert("RGBA")]), (0, 255, 0)),
        (SimpleNamespace(images=torch.zeros(1, 4, 8, 8)), None),
        (SimpleNamespace(images=[]), None),
        (SimpleNamespace(audios=[1]), None),
        (None, None),
        ((), None),
    ],
)
def test_first_image_is_the_first_of_a_batch_or_the_middle_frame_of_a_video(output, color):
    image = first_image(output)
    assert (image and image.getpixel((2, 2))) == color
