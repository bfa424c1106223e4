"""A pipeline on a thread of its own: pictures as they come, its image at last, and no thread left behind."""

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
from safelight.hosts.gradio.background_call import BackgroundCall, enlarged, image_of, previews
from safelight.preview.picture import DecodedPicture
from safelight.preview.step import StepInfo

WAIT_S = 20.0


def picture_of(index, total=4, shape=(1, 1, 8, 12), **fields):
    pixels = np.full((*shape, 3), index * 20, np.uint8)
    step = StepInfo(index=index, total=total, sigma=fields.pop("sigma", 0.5), at_s=0.0)
    card = Card(name=fields.pop("decoder", "d"), space="sd1", kind="test")
    return DecodedPicture(step=step, card=card, **({"pixels": pixels, "shown": (96, 64), "decode_ms": 1.0} | fields))


class FakePipeline:
    """Shows a step whenever it is let go on, and looks whether it should stop; `result` is what it makes of it."""

    def __init__(self, steps=3, result="made", can_stop=True):
        self.steps, self.result, self.can_stop = steps, result, can_stop
        self.go_on = threading.Semaphore(0)
        self.screen, self.options, self.asked = None, None, None
        self.stopping = self.left = self.began = False
        self.done = 0

    @contextmanager
    def watch(self, pipeline, *, screen, **options):
        assert pipeline is self
        if options.get("show") == "nonsense":
            raise ValueError("show: expected one of denoised, noisy")
        self.screen, self.options = screen, options
        try:
            yield SimpleNamespace(stop=self.stop)
        finally:
            self.left = True

    def stop(self):
        if not self.can_stop:
            raise RunError("this pipeline cannot be stopped")
        self.stopping = self.began
        return self.began

    def __call__(self, *args, **asked):
        self.asked = args, asked
        self.screen.open()
        for index in range(1, self.steps + 1):
            assert self.go_on.acquire(timeout=WAIT_S)
            self.began = True
            if self.stopping:
                break
            self.done = index
            self.screen.show(picture_of(index, self.steps))
        self.screen.close("finished")
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def pipeline(monkeypatch):
    def pipeline(**facts):
        made = FakePipeline(**facts)
        monkeypatch.setattr(background_call, "watch", made.watch)
        return made

    return pipeline


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "safelight-pipeline"]


def drain(generator):
    """What a generator gave, and what it returned."""
    given = []
    try:
        while True:
            given.append(next(generator))
    except StopIteration as stop:
        return given, stop.value


def test_the_newest_picture_is_given_and_the_finished_image_at_last(pipeline):
    finished = Image.new("RGB", (96, 64), (1, 2, 3))
    pipe = pipeline(result=SimpleNamespace(images=[finished]))
    steps = previews(pipe, "a lighthouse", num_inference_steps=3, watching={"out": "runs"})
    seen = []
    for index in (1, 2, 3):
        pipe.go_on.release()
        seen.append(next(steps))
        assert seen[-1].getpixel((5, 5)) == (20 * index,) * 3
    rest, result = drain(steps)
    assert {image.size for image in (*seen, *rest)} == {(96, 64)}
    assert [image.getpixel((0, 0)) for image in rest] == [(1, 2, 3)]
    assert result is pipe.result
    assert pipe.asked == (("a lighthouse",), {"num_inference_steps": 3})
    assert pipe.options == {"out": "runs"}
    assert pipe.left


def test_who_is_slow_gets_fewer_pictures_and_the_newest(pipeline):
    pipe = pipeline(steps=5, result=None)
    call = BackgroundCall(pipe, (), {}, {})
    pipe.go_on.release(5)
    call._thread.join(WAIT_S)
    assert [picture.index for picture in call.pictures()] == [5]
    assert call.result() is None


def test_what_the_pipeline_raises_comes_out_after_its_pictures(pipeline):
    pipe = pipeline(steps=1, result=MemoryError("no memory left"))
    steps = previews(pipe)
    pipe.go_on.release()
    next(steps)
    with pytest.raises(MemoryError, match="no memory left"):
        next(steps)
    assert pipe.left


def test_who_stops_asking_stops_the_pipeline(pipeline):
    pipe = pipeline(steps=100)
    steps = previews(pipe)
    pipe.go_on.release()
    next(steps)
    pipe.go_on.release(100)
    steps.close()
    assert pipe.done < 100 or pipe.stopping
    assert pipe.left


def test_a_run_that_was_stopped_keeps_its_last_picture_and_gives_no_image(pipeline):
    pipe = pipeline(steps=100, result=SimpleNamespace(images=[Image.new("RGB", (4, 4))]))
    call = BackgroundCall(pipe, (), {}, {})
    pictures = call.pictures()
    pipe.go_on.release()
    assert next(pictures).index == 1
    call.stop()
    pipe.go_on.release()
    assert list(pictures) == []
    assert call.stopped
    assert pipe.done == 1
    call.close()


def test_who_stops_before_the_first_step_is_heard_at_the_first_step(pipeline):
    pipe = pipeline(steps=100)
    call = BackgroundCall(pipe, (), {}, {})
    call.stop()
    pictures = call.pictures()
    pipe.go_on.release()
    assert next(pictures).index == 1
    pipe.go_on.release()
    assert list(pictures) == []
    assert pipe.done <= 2
    call.close()


def test_a_pipeline_that_cannot_be_stopped_says_so_and_is_waited_for(pipeline):
    pipe = pipeline(steps=2, can_stop=False)
    call = BackgroundCall(pipe, (), {}, {})
    with pytest.raises(RunError, match="cannot be stopped"):
        call.stop()
    assert not call.stopped
    pipe.go_on.release(2)
    call.close()
    assert pipe.done == 2


def test_a_wrong_option_is_an_error_at_once_and_begins_nothing(pipeline):
    pipe = pipeline()
    with pytest.raises(ValueError, match="expected one of denoised, noisy"):
        next(previews(pipe, watching={"show": "nonsense"}))
    assert pipe.asked is None


@pytest.mark.parametrize(
    ("shape", "shown", "size"),
    [
        ((1, 1, 8, 12), (96, 64), (96, 64)),
        ((1, 1, 8, 12), (3000, 2000), (1024, 683)),
        ((1, 3, 8, 12), (96, 64), (96, 64)),
        ((4, 1, 8, 12), (96, 64), (200, 136)),
    ],
)
def test_a_picture_has_the_size_of_the_final_image_up_to_a_limit(shape, shown, size):
    assert enlarged(picture_of(1, shape=shape, shown=shown)).size == size


RED = Image.new("RGB", (6, 4), (255, 0, 0))
GREEN = Image.new("RGB", (6, 4), (0, 255, 0))
FLOATS = np.asarray(GREEN, np.float32) / 255


@pytest.mark.parametrize(
    ("output", "colour"),
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
def test_the_image_of_a_result_is_the_first_one_and_of_a_video_the_frame_in_the_middle(output, colour):
    image = image_of(output)
    assert (image and image.getpixel((2, 2))) == colour
