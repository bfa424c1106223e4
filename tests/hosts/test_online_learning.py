"""The learning thread and the copies of decodes, without a host."""

import logging
import threading

import pytest
import torch
import torch.nn.functional as F
from safelight.errors import FitError
from safelight.hosts.online_learning import MAX_DECODE_PICTURES, MAX_DECODE_PIXELS, OnlineLearner, copy_decode


@pytest.fixture
def learner():
    learner = OnlineLearner(waiting=2)
    yield learner
    learner.close()


class Gate:
    """A task that waits for an event."""

    def __init__(self):
        self.begun, self.open, self.done = threading.Event(), threading.Event(), False

    def __call__(self):
        self.begun.set()
        assert self.open.wait(10)
        self.done = True


# The thread


def test_tasks_run_in_order_on_one_other_thread(learner):
    done = []
    for number in range(6):
        learner.offer(lambda number=number: done.append((number, threading.get_ident())))
        learner.wait()
    assert [number for number, _ in done] == list(range(6))
    assert {thread for _, thread in done} != {threading.get_ident()}
    assert len({thread for _, thread in done}) == 1


def test_tasks_that_do_not_fit_into_the_queue_are_dropped(learner):
    gate, done = Gate(), []
    assert learner.offer(gate)
    assert gate.begun.wait(10)
    assert [learner.offer(lambda: done.append(1)) for _ in range(4)] == [True, True, False, False]
    gate.open.set()
    learner.wait()
    assert done == [1, 1]


def test_a_failing_task_is_logged_once_and_does_not_end_the_thread(learner, caplog):
    def fail(error):
        raise error

    for error in (FitError("no pictures"), OSError(28, "No space left on device"), ZeroDivisionError("ours")) * 2:
        learner.offer(lambda error=error: fail(error))
        learner.wait()
    with caplog.at_level(logging.INFO):
        learner.offer(lambda: "it is better")
        learner.wait()
    assert [record.message.removeprefix("learning while decoding: ") for record in caplog.records] == [
        "no pictures",
        "[Errno 28] No space left on device",
        "ZeroDivisionError: ours",
        "it is better",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR", "INFO"]


def test_finished_tasks_are_released(learner):
    class Picture:
        pass

    import weakref

    picture = Picture()
    seen = weakref.ref(picture)
    learner.offer(lambda picture=picture: None)
    del picture
    learner.wait()
    assert seen() is None


def test_closing_finishes_the_current_task_and_drops_the_others():
    learner, gate, done = OnlineLearner(), Gate(), []
    learner.offer(gate)
    assert gate.begun.wait(10)
    learner.offer(lambda: done.append(1))
    closing = threading.Thread(target=learner.close)
    closing.start()
    gate.open.set()
    closing.join(10)
    assert gate.done
    assert done == []
    assert not learner.offer(lambda: done.append(2))


def test_no_thread_starts_without_a_task():
    before = threading.active_count()
    OnlineLearner().close()
    assert threading.active_count() == before


# Copies


def pair(items=1, times=1, height=6, width=9, downscale=8, stride=4):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(items, 4, times, height, width, generator=generator)
    frames = 1 + (times - 1) * stride
    return latents, torch.rand(items * frames, height * downscale, width * downscale, 3, generator=generator)


def test_pictures_are_averaged_to_the_latent_size():
    latents, images = pair(items=3)
    read, downscale = copy_decode(latents, images)
    decoded = read()
    assert downscale == 8
    assert torch.equal(decoded.latents, latents[:, :, 0])
    for y, x in ((0, 0), (5, 8), (2, 3)):
        block = images[1, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].double().mean((0, 1))
        assert torch.allclose(decoded.rgb[1, :, y, x].double(), block, atol=1e-6)


def test_changing_the_decode_does_not_change_the_copy(monkeypatch):
    latents, images = pair()
    read, _ = copy_decode(latents, images)
    before = [tensor.clone() for tensor in (latents, images)]
    latents.zero_(), images.zero_()
    decoded = read()
    assert torch.equal(decoded.latents, before[0][:, :, 0])
    assert decoded.rgb.mean() == pytest.approx(float(before[1].mean()), abs=1e-4)


def test_decodes_of_inference_mode_can_be_learned_from():
    with torch.inference_mode():
        latents, images = pair()
        read, _ = copy_decode(latents, images)
    decoded = read()
    assert not decoded.latents.is_inference()
    assert not decoded.rgb.is_inference()


def test_the_first_latent_frame_is_one_picture_and_each_later_one_is_four():
    latents, images = pair(items=2, times=4)
    read, _ = copy_decode(latents, images)
    decoded = read()
    assert len(decoded.latents) == MAX_DECODE_PICTURES
    small = F.avg_pool2d(images.movedim(-1, 1), 8)
    assert torch.allclose(decoded.rgb[0], small[0])
    assert torch.allclose(decoded.rgb[2], small[5:9].mean(0))
    assert torch.equal(decoded.latents[6], latents[1, :, 2])
    assert torch.allclose(decoded.rgb[6], small[13 + 5 : 13 + 9].mean(0))


def test_large_batches_and_large_pictures_are_sampled():
    latents, images = pair(items=20, height=2, width=2)
    assert len(copy_decode(latents, images)[0]().latents) == MAX_DECODE_PICTURES
    latents, images = pair(items=5, height=90, width=80, downscale=2)
    assert copy_decode(latents, images)[0]().latents.shape[-2:] == (57, 57)
    assert MAX_DECODE_PIXELS >= 5 * 57**2
    latents, images = pair(height=148, width=132, downscale=2)
    decoded = copy_decode(latents, images)[0]()
    assert torch.equal(decoded.latents, latents[:, :, 0, 10:-10, 2:-2])
    assert torch.allclose(decoded.rgb[0, :, 0, 0], images[0, 20:22, 4:6].mean((0, 1)))


def test_a_long_video_is_sampled_evenly():
    latents, images = pair(times=21, height=2, width=2)
    decoded = copy_decode(latents, images)[0]()
    assert torch.equal(decoded.latents, latents[0, :, [0, 5, 10, 15]].movedim(1, 0))


@pytest.mark.parametrize(
    ("latents", "images"),
    [
        ((1, 4, 1, 6, 9), (1, 48, 73, 3)),
        ((1, 4, 1, 6, 9), (2, 48, 72, 3)),
        ((2, 4, 1, 6, 9), (1, 48, 72, 3)),
        ((1, 4, 3, 6, 9), (8, 48, 72, 3)),
        ((1, 4, 1, 6, 9), (1, 48, 72, 4)),
        ((1, 4, 1, 6, 9), (1, 5, 48, 72, 3)),
        ((1, 4, 1, 6, 9), (1, 6, 9, 3)),
        ((1, 4, 1, 6, 9), (1, 3, 4, 3)),
        ((1, 4, 1, 6, 9), (0, 48, 72, 3)),
    ],
)
def test_mismatched_latents_and_images_are_refused(latents, images):
    with pytest.raises(FitError, match="this decode is not used for learning"):
        copy_decode(torch.zeros(latents), torch.zeros(images))
